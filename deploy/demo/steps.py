"""The steps of the demo: each prints what it does, and checks the numbers that it finds."""

from __future__ import annotations

import json
import re
import shlex
import time
from typing import TYPE_CHECKING, Any

from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from cloud import serve_cloud
from commands import Commands
from gateway import ROOT, Gateway, end_previous
from llmlog_consumer.elasticsearch.index_names import DAY_MS, daily_index
from llmlog_consumer.provision.rights import User
from llmlog_local.stack import LocalStack
from page import end_console, start_console
from topic import TopicReader
from traffic import KINDS, THREADS, Expectation, make_payload, send_all

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from access import Access
    from traffic import Answer

INDEX = "litellm-logs"
WORKERS = 2
DELIVERY_TIMEOUT_SECONDS = 30.0

# The queries of LiteLLM's Elasticsearch guide, as they stand there.
TOTAL_COST = (
    '{"size":0,"aggs":{"models":{"terms":{"field":"model"},'
    '"aggs":{"total_cost":{"sum":{"field":"response_cost"}}}}}}'
)
AVERAGE_RESPONSE_TIME = '{"size":0,"aggs":{"avg_response_time":{"avg":{"field":"response_time"}}}}'
RECENT_ERRORS = (
    '{"query":{"term":{"status":"failure"}},"size":10,"sort":[{"endTime":{"order":"desc"}}]}'
)
FIELD_IN_CONFLICT = "end_user"


class Demo:
    """The steps, in their order; each prints what it does and checks what it finds."""

    def __init__(self, console: Console, folder: Path, access: Access) -> None:
        self._console = console
        self._access = access
        self._user: str | None = None
        self._commands = Commands(console, folder)
        self._folder = folder
        self._steps = 0
        self._checks: list[tuple[str, object, object, bool]] = []

    def run(self) -> bool:
        """Run all steps; return False where a number differs from what is expected."""
        self._step("Start Kafka and Elasticsearch, real ones, on this machine")
        self._commands.echo(f"cd {self._folder.name}")
        up = ("local", "up", "--dir", ".", *self._access.stack_options)
        exports = self._commands.ask(*up, echo_as=f'eval "$(pipeline {shlex.join(up)})"')
        self._console.print(Text(exports.rstrip(), style="dim"), soft_wrap=True)
        if self._access.is_secure:
            self._check("ports of servers without TLS", self._access.plaintext_ports(), [])

        self._step("Create topics, index template and today's index")
        self._sign_in(User.SETUP)
        self._commands.run("setup")

        self._step("Start a LiteLLM proxy with our callback")
        self._sign_in(User.GATEWAY)
        with Gateway(self._folder, self._commands.environment) as gateway:
            self._commands.echo(gateway.command)
            self._say(f"its log: {gateway.log_path.relative_to(ROOT)}")
            self._step("Meanwhile: an event that Elasticsearch is going to refuse")
            refused = self._send_to_conflict()
            gateway.wait_ready()
            with TopicReader(self._access.settings(User.READER)) as topic:
                answers, expected = self._send(gateway)
                self._deliver(gateway, topic, 1 + expected.events)
        self._consume(topic, expected)
        self._query(answers, expected)
        self._inspect(refused)
        if self._access.is_secure:
            self._use_cloud(expected)
        return self._conclude()

    def leave_running(self) -> None:
        """Print how to look around."""
        folder = self._folder.name
        self._step("Kafka, Elasticsearch and the console stay up")
        self._sign_in(User.CONSOLE)
        link, number = start_console(self._folder, self._commands.environment)
        options = self._access.curl_options(User.READER, below=f"{folder}/")
        self._console.print(
            Text(
                f"The console: {link}\n"
                f"  (once; then the next link is in {folder}/console.log)\n"
                "Look around:\n"
                "  . .venv/bin/activate\n"
                f'  eval "$(pipeline local env --dir {folder})"\n'
                "  pipeline report\n"
                "  pipeline dlq list\n"
                f'  curl -s{options} "$LLMLOG_ELASTICSEARCH_URL/{INDEX}/_search'
                '?q=status:failure&pretty"\n'
                "End them:\n"
                f"  kill {number}\n"
                f"  pipeline local down --dir {folder}"
            ),
            soft_wrap=True,
        )

    def take_down(self) -> None:
        """End the servers that run, also those of an earlier run."""
        end_previous(self._folder)
        end_console(self._folder)
        if ended := LocalStack(self._folder).down():
            self._say(f"\nended {' and '.join(ended)}")

    def _sign_in(self, user: str) -> None:
        """Run the commands that follow as this user."""
        self._commands.use(self._access.settings(user))
        if self._access.is_secure and user != self._user:
            self._commands.echo(f'eval "$(pipeline local env --dir . --as {user})"')
        self._user = user

    def _send_to_conflict(self) -> str:
        """Make yesterday's index with one field mapped wrongly; return the call meant for it."""
        yesterday = time.time() - DAY_MS / 1000
        index = daily_index(INDEX, int(yesterday * 1000))
        mapping = {"mappings": {"properties": {FIELD_IN_CONFLICT: {"type": "long"}}}}
        self._say(f"Yesterday's index takes {FIELD_IN_CONFLICT} for a number; then comes a name.")
        self._curl("PUT", f"/{index}", json.dumps(mapping), user=User.SETUP)
        call_id = "the-call-of-yesterday"
        payload = make_payload(call_id, yesterday) | {FIELD_IN_CONFLICT: "alice"}
        (self._folder / "yesterday.ndjson").write_text(json.dumps(payload) + "\n")
        self._commands.run("produce", "yesterday.ndjson")
        return call_id

    def _send(self, gateway: Gateway) -> tuple[list[Answer], Expectation]:
        total = sum(kind.count for kind in KINDS)
        self._step(f"Send {total} requests from {THREADS} threads")
        with Progress(
            console=self._console, transient=True, disable=not self._console.is_terminal
        ) as progress:
            task = progress.add_task("requests", total=total)
            answers = send_all(gateway.address, gateway.headers, lambda _: progress.advance(task))
        table = Table("request", "sent", "HTTP status", box=None, pad_edge=False)
        for kind in KINDS:
            statuses = sorted({answer.status for answer in answers if answer.kind is kind})
            table.add_row(kind.name, str(kind.count), " ".join(map(str, statuses)))
        self._console.print(table)
        expected = Expectation(answers, gateway.models())
        self._check("requests answered", len(answers), total)
        self._say(f"One event for each attempt: {expected.events}, {expected.failures} failed.")
        return answers, expected

    def _deliver(self, gateway: Gateway, topic: TopicReader, expected: int) -> None:
        self._step("Wait until the callback has delivered them, then end the proxy")
        topic.read_until(lambda: len(topic.events) >= expected, DELIVERY_TIMEOUT_SECONDS)
        gateway.stop()
        size = topic.size()
        topic.read_until(lambda: topic.records >= size, DELIVERY_TIMEOUT_SECONDS)
        self._say(f"{topic.records} records, {len(topic.events)} events")
        self._check("events on the topic, with yesterday's", len(topic.events), expected)

    def _consume(self, topic: TopicReader, expected: Expectation) -> None:
        self._step(f"Index the topic with {WORKERS} workers")
        self._sign_in(User.WORKER)
        totals = self._run_workers()
        self._check("records consumed", totals["consumed"], topic.records)
        self._check("indexed", totals["indexed"], expected.events)
        self._check("dead letters written", totals["dead"], 1)
        settled = sum(totals[name] for name in ("indexed", "duplicate", "dead"))
        self._check("indexed + duplicate + dead", settled, totals["consumed"])

    def _query(self, answers: list[Answer], expected: Expectation) -> None:
        self._step("The three queries of LiteLLM's Elasticsearch guide, word for word")
        self._sign_in(User.READER)
        self._curl("POST", f"/{INDEX}/_refresh")
        by_model = self._search(TOTAL_COST)
        buckets = by_model["aggregations"]["models"]["buckets"]
        table = Table("model", "events", "total cost, USD", box=None, pad_edge=False)
        for bucket in buckets:
            table.add_row(
                bucket["key"], str(bucket["doc_count"]), f"{bucket['total_cost']['value']:.6f}"
            )
        self._console.print(table)
        self._check("documents", by_model["hits"]["total"]["value"], expected.events)
        self._check(
            "events by model",
            {bucket["key"]: bucket["doc_count"] for bucket in buckets},
            dict(expected.models),
        )
        costs = {bucket["key"]: bucket["total_cost"]["value"] for bucket in buckets}
        for model, cost in expected.costs.items():
            self._check(f"cost of {model}", f"{costs.get(model, 0.0):.9f}", f"{cost:.9f}")

        average = self._search(AVERAGE_RESPONSE_TIME)["aggregations"]["avg_response_time"]["value"]
        self._say(f"{average:.4f} s")
        self._check(
            "average response time, seconds",
            f"{average:.4f}",
            f"up to {expected.slowest:.4f}",
            holds=0 < average <= expected.slowest,
        )

        errors = self._search(RECENT_ERRORS)["hits"]
        sources = [hit["_source"] for hit in errors["hits"]]
        table = Table("model", "class", "error", box=None, pad_edge=False)
        for source in sources:
            kind = source["error_information"].get("error_class")
            text = " ".join(source["error_str"].split())
            table.add_row(source["model"], kind, Text(text[:60]))
        self._console.print(table)
        self._check("failures", errors["total"]["value"], expected.failures)
        ends = [source["endTime"] for source in sources]
        self._check("recent errors, newest first", len(ends), 10, holds=ends == sorted(ends)[::-1])

        self._say("And every answer's x-litellm-call-id has its document:")
        query = json.dumps({"size": len(answers) * 2, "_source": ["litellm_call_id"]})
        hits = self._search(query)["hits"]["hits"]
        found = {hit["_source"]["litellm_call_id"] for hit in hits}
        present = len(found & expected.call_ids)
        self._check("calls found by their id", present, len(expected.call_ids))

        self._step("The same as a report")
        self._commands.run("report")

    def _inspect(self, refused: str) -> None:
        self._step("The event that Elasticsearch refused")
        self._commands.run("dlq", "list")
        letters = [
            json.loads(line) for line in self._commands.ask("dlq", "list", "--json").splitlines()
        ]
        self._check("dead letters on their topic", len(letters), 1)
        for letter in letters:
            shown = ("dlq", "show", letter["coordinates"])
            self._commands.run(*shown)
            event = json.loads(self._commands.ask(*shown, "--json"))["event"]
            self._check("the call in the dead letter", event["litellm_call_id"], refused)
            reason = letter["es"]["reason"]
            self._check(
                "Elasticsearch's reason names",
                FIELD_IN_CONFLICT,
                FIELD_IN_CONFLICT,
                holds=FIELD_IN_CONFLICT in reason,
            )

    def _use_cloud(self, expected: Expectation) -> None:
        self._step("One event more, by way of a Cloud ID and API keys")
        self._say(
            "The local Elasticsearch cannot create API keys: a proxy takes them, and signs in as "
            "the user of each."
        )
        (self._folder / "today.ndjson").write_text(
            json.dumps(make_payload("the-call-by-cloud", time.time())) + "\n"
        )
        self._sign_in(User.GATEWAY)
        self._commands.run("produce", "today.ndjson")
        users = (User.WORKER, User.READER)
        with serve_cloud(self._folder, self._access, users) as cloud:
            self._commands.echo(f"export LLMLOG_ELASTICSEARCH_CLOUD_ID={cloud.cloud_id}")
            self._commands.use(cloud.settings(self._access, User.WORKER))
            self._check("indexed by way of the Cloud ID", self._run_workers()["indexed"], 1)
            self._commands.use(cloud.settings(self._access, User.READER))
            proof = json.loads(self._commands.ask("verify", "--json"))
        self._check("documents in the end", proof["documents"], expected.events + 1)
        self._check("dead letters in the end", proof["dead_letters"], 1)
        self._check("proved by `pipeline verify`", proof["ok"], expected=True)

    def _run_workers(self) -> dict[str, int]:
        """Index what is on the topic; return the counts of the workers."""
        return _read_totals(
            self._commands.run_logged("consume", "--workers", str(WORKERS), "--until-end")
        )

    def _conclude(self) -> bool:
        self._say(
            "All of it on a web page: `pipeline console`; `make demo KEEP=1` leaves it running."
        )
        self._step("Does it add up?")
        table = Table("", "found", "expected", "", box=None, pad_edge=False)
        for what, found, expected, holds in self._checks:
            verdict = "ok" if holds else Text("WRONG", style="red")
            table.add_row(what, _shorten(found), _shorten(expected), verdict)
        self._console.print(table)
        return all(holds for *_, holds in self._checks)

    def _check(
        self, what: str, found: object, expected: object, *, holds: bool | None = None
    ) -> None:
        holds = found == expected if holds is None else holds
        self._checks.append((what, found, expected, holds))
        if not holds:
            self._say(f"WRONG: {what}: {found}, expected {expected}", style="red")

    def _search(self, query: str) -> Any:
        return self._curl("POST", f"/{INDEX}/_search", query)

    def _curl(
        self, method: str, path: str, body: str | None = None, user: str = User.READER
    ) -> Any:
        """Send a request to Elasticsearch, and print it as a curl command."""
        data = (
            "" if body is None else f" -H 'content-type: application/json' -d {shlex.quote(body)}"
        )
        options = self._access.curl_options(user)
        self._commands.echo(f'curl -s{options} -X {method} "$LLMLOG_ELASTICSEARCH_URL{path}"{data}')
        with self._access.client(user) as client:
            headers = {"content-type": "application/json"} if body else {}
            answer = client.request(method, path, content=body, headers=headers)
        answer.raise_for_status()
        return answer.json()

    def _step(self, title: str) -> None:
        self._steps += 1
        self._console.print()
        self._console.print(Text(f"{self._steps}. {title}", style="bold"))

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)


def _shorten(value: object) -> str:
    return f"{sum(value.values())} in {len(value)}" if isinstance(value, dict) else str(value)


def _read_totals(log: list[str]) -> dict[str, int]:
    """Read the counts of the line with which `pipeline consume` ends."""
    last_lines = [line for line in log if "event=ended" in line]
    return {
        name: int(count) for name, count in re.findall(r"(\w+)=(\d+)\b", "".join(last_lines[-1:]))
    }
