"""The histogram of dead letters: each hour at its moment, whatever lies between."""

from __future__ import annotations

import json
import re
from html import unescape

from support.fakes.console import STATS
from support.fakes.console_login import logged_in
from support.pipeline import wait_until

HOUR_MS = 3_600_000


def test_an_hour_without_a_letter_is_a_gap_in_the_histogram(tmp_path) -> None:
    hours = [("2026-09-21T00", 4), ("2026-09-21T01", 2), ("2026-09-22T05", 1)]
    rows = [{"hour": f"{hour}:00:00+00:00", "count": count} for hour, count in hours]
    lost = {"hour": None, "count": 9}
    console, client = logged_in(tmp_path, "numbers")
    console.desk.count_causes = lambda _job, _since_ms: {**STATS, "hours": [lost, *rows]}
    wait_until(lambda: "data-option" in client.get("/letters/causes").text)
    found = re.search(r'data-option="([^"]+)"', client.get("/letters/causes").text)
    picture = json.loads(unescape(found[1]))
    assert picture["xAxis"]["type"] == "time"
    (series,) = picture["series"]
    first_ms = series["data"][0][0]
    assert first_ms == 1_789_948_800_000
    assert [[(at - first_ms) / HOUR_MS, count] for at, count in series["data"]] == [
        [0, 4],
        [1, 2],
        [29, 1],
    ]
