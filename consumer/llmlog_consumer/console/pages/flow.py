"""Owns the page *Flow*: from the gateways to the index, now and within the last hour."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmlog_consumer.console.charts import draw_series
from llmlog_consumer.console.history import balance, rates
from llmlog_consumer.console.runbook import VERDICTS
from llmlog_consumer.console.views import render

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


def show(request: Request) -> Response:
    """Return the page; what stands now comes right after it, and again every ten seconds."""
    return render(request, "flow.html")


def show_now(request: Request) -> Response:
    """Return what stands now."""
    history = request.app.state.console.history
    samples = history.samples()
    shown = history.last_status()
    of = rates(samples)
    times = [at for at, _ in of["written"]]
    values = [[rate for _, rate in of[name]] for name in of]
    names = ["written to the topic", "settled", "indexed"]
    lag = [None if s.status is None else float(s.status["lag"]) for s in samples]
    return render(
        request,
        "flow_now.html",
        last=samples[-1] if samples else None,
        shown=shown,
        part=VERDICTS.get(str(shown.status["health"]), "") if shown and shown.status else "",
        now_rates={name: (rows[-1][1] if rows else None) for name, rows in of.items()},
        balance=balance(samples),
        rates_picture=json.dumps(
            draw_series(names, times, values, title="Records a second", stacked=False)
        ),
        lag_picture=json.dumps(
            draw_series(
                ["waiting"],
                [s.at_ms for s in samples],
                [lag],
                title="Records that wait",
                stacked=False,
            )
        ),
    )
