// What the pages need beside htmx: pictures, the reader's time zone, keys. No data becomes markup.
"use strict";

const UNITS = {
  usd: (value) => "$" + Number(value).toLocaleString(undefined, { maximumSignificantDigits: 5 }),
  seconds: (value) => Number(value).toLocaleString(undefined, { maximumFractionDigits: 3 }) + " s",
  count: (value) => Number(value).toLocaleString(undefined, { maximumFractionDigits: 1 }),
};
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function draw(element) {
  const option = JSON.parse(element.dataset.option);
  const write = UNITS[element.dataset.unit] || String;
  const style = getComputedStyle(document.body);
  const text = style.getPropertyValue("--text").trim();
  const line = style.getPropertyValue("--line").trim();
  option.color = style.getPropertyValue("--series").split(",").map((color) => color.trim());
  option.textStyle = { color: text };
  option.legend = { ...option.legend, textStyle: { color: text }, pageTextStyle: { color: text } };
  option.tooltip = {
    ...option.tooltip,
    backgroundColor: style.getPropertyValue("--card").trim(),
    textStyle: { color: text },
    valueFormatter: (value) => (value === null || value === undefined ? "–" : write(value)),
  };
  for (const axis of [option.xAxis, option.yAxis]) {
    axis.axisLabel = { ...axis.axisLabel, color: text, hideOverlap: true };
    axis.splitLine = { lineStyle: { color: line } };
    if (axis.type === "value") axis.axisLabel.formatter = write;
  }
  const old = echarts.getInstanceByDom(element);
  if (old) old.dispose();
  echarts.init(element, null, { renderer: "canvas" }).setOption(option);
  resized.observe(element);
}

const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const chart = echarts.getInstanceByDom(target);
    if (chart) chart.resize();
  }
});

function dress(root) {
  const all = (selector) => [
    ...(root.matches && root.matches(selector) ? [root] : []),
    ...root.querySelectorAll(selector),
  ];
  for (const element of all("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (!element.dateTime || Number.isNaN(moment.getTime())) continue;
    element.textContent = moment.toLocaleString(undefined, {
      dateStyle: "medium",
      timeStyle: "medium",
    });
    element.title = element.dateTime;
  }
  for (const element of all(".chart[data-option]")) draw(element);
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  for (const element of all("[data-zone]")) element.value = zone;
  for (const element of all("[data-zone-name]")) element.textContent = `: ${zone}`;
  const focus = all("[data-focus]")[0];
  if (focus && document.body.dataset.ready) focus.focus({ preventScroll: false });
}

document.addEventListener("DOMContentLoaded", () => {
  dress(document.body);
  document.body.dataset.ready = "yes";
});
document.addEventListener("htmx:load", (event) => {
  if (document.body.dataset.ready) dress(event.detail.elt);
});
// ECharts keeps every picture that is not given back: Flow draws two of them every ten seconds.
function release(element) {
  const chart = echarts.getInstanceByDom(element);
  if (!chart) return;
  resized.unobserve(element);
  chart.dispose();
}
document.addEventListener("htmx:beforeCleanupElement", (event) => release(event.detail.elt));
document.addEventListener("htmx:sendError", (event) => {
  const note = document.createElement("p");
  note.className = "problem";
  note.setAttribute("role", "alert");
  note.textContent = "The console does not answer. Its page asks again.";
  event.detail.target.replaceChildren(note);
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-period]")) {
    const custom = event.target.closest("fieldset").querySelector(".custom");
    custom.hidden = event.target.value !== "custom";
  }
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-close]");
  if (button) close(button.dataset.close);
});
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input, select, textarea");
  if (event.key === "Escape") close("drawer");
  if (event.key === "/" && !isTyping) {
    const search = document.querySelector("[data-search]");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
});
let chosen = null;
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.target && event.detail.target.id === "drawer") chosen = event.detail.elt;
});

function close(id) {
  const element = document.getElementById(id);
  if (!element || element.tagName !== "ASIDE" || !element.hasChildNodes()) return;
  element.querySelectorAll(".chart").forEach(release);
  element.replaceChildren();
  if (chosen && chosen.isConnected) chosen.focus();
}

function redraw() {
  for (const element of document.querySelectorAll(".chart[data-option]")) draw(element);
}
dark.addEventListener("change", redraw);

// What a reader has opened stays open when a part of the page is drawn again.
let opened = [];
document.addEventListener("htmx:beforeSwap", () => {
  opened = [...document.querySelectorAll("details[id][open]")].map((element) => element.id);
});
document.addEventListener("htmx:afterSwap", () => {
  for (const id of opened) {
    const element = document.getElementById(id);
    if (element) element.open = true;
  }
});
