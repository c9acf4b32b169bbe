"""The first use of an index: which deleted one is made again, by its period and not its name."""

import pytest

from llmlog_consumer.elasticsearch.connection import Answer
from llmlog_consumer.elasticsearch.daily_index import DailyIndices

NEWEST = "logs-2026.11.30"


class Cluster:
    """Remembers that an index was deleted; makes it again when asked to."""

    def __init__(self, deleted):
        self._deleted = deleted
        self._is_there = False

    def request(self, method, path, **_):
        if path.startswith("/_cluster"):
            tombstones = [{"index": {"index_name": self._deleted}}]
            graveyard = {"index-graveyard": {"tombstones": tombstones}}
            return Answer(200, {"metadata": graveyard})
        if path.startswith("/_index_template"):
            return Answer(200, {})
        if method == "PUT":
            self._is_there = True
            return Answer(200, {})
        if not self._is_there:
            return Answer(404, {"error": {"type": "index_not_found_exception"}})
        return Answer(200, {self._deleted: {"mappings": {"_meta": {"llmlog_version": 2}}}})


@pytest.mark.parametrize(
    ("index", "is_made"),
    [
        (f"{NEWEST}-pay", True),
        ("logs-2026.11", True),
        ("logs-2026.11-pay", True),
        ("logs-2026.w49", True),
        ("logs-2026.12.01-pay", True),
        ("logs-2026.11.29-pay", False),
        ("logs-2026.10", False),
        ("logs-2026.10-pay", False),
        ("logs-2026.w48", False),
    ],
)
def test_a_deleted_index_is_made_again_while_its_period_lasts(index, is_made):
    indices = DailyIndices(Cluster(index), "logs")
    indices.newest = NEWEST
    refused = indices.prepare(frozenset([index]))
    assert refused.keys() == (set() if is_made else {index})
