"""What an address and a form order of dead letters."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from llmlog_common.errors import ConfigurationError
from llmlog_consumer.console.queries.orders import read_order, span_of
from llmlog_consumer.console.queries.period import SPANS
from support.fakes.console import EVENT_ID, NOW

CAUSE = {"fingerprint": "cd6f6273e49e", "period": "24h"}


def order(form=None, params=CAUSE, kind="replay"):
    return read_order(kind, params, form or {}, NOW)


@pytest.mark.parametrize("fingerprint", ["", "x", "cd6f6273e49e0", "../../etc/pas", "CD6F6273E49E"])
def test_an_address_without_a_cause_orders_nothing(fingerprint) -> None:
    assert order(params={"fingerprint": fingerprint}) is None


@pytest.mark.parametrize(
    ("form", "event_id"),
    [
        ({}, None),
        ({"event_id": [EVENT_ID]}, EVENT_ID),
        ({"event_id": [EVENT_ID], "scope": ["one"]}, EVENT_ID),
        ({"event_id": [EVENT_ID], "scope": ["cause"]}, None),
        ({"event_id": [""]}, None),
    ],
)
def test_a_letter_or_its_whole_cause_is_ordered(form, event_id) -> None:
    wanted = order(form).wanted
    assert (wanted.event_id, wanted.fingerprint) == (event_id, "cd6f6273e49e")
    assert wanted.since_ms <= (NOW - SPANS["24h"][1]) * 1000


def test_an_id_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="names no event"):
        order({"event_id": ["../x"]})


def test_rows_without_a_field_are_no_changes_and_orders_of_one_work_are_equal() -> None:
    form = {"change": ["set", "drop"], "field": [" model ", ""], "value": ["a=b", ""]}
    assert order(form).words == ['set model="a=b"']
    assert order(form).key == order(form).key
    assert len({order(form).key, order().key, order(form, kind="dry run").key}) == 3


@pytest.mark.parametrize(
    ("age_seconds", "span"),
    [(0, "15m"), (839, "15m"), (841, "1h"), (3600, "24h"), (86_400 * 8, "30d"), (10**9, "90d")],
)
def test_a_letter_lies_in_the_shortest_period_that_has_it(age_seconds, span) -> None:
    failed_at = datetime.fromtimestamp(NOW - age_seconds, UTC).isoformat()
    assert span_of(failed_at, NOW) == span


@pytest.mark.parametrize("failed_at", [None, "", "yesterday", "9999-99-99"])
def test_a_letter_without_a_time_is_looked_for_within_a_week(failed_at) -> None:
    assert span_of(failed_at, NOW) == "7d"
