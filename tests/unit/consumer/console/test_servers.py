"""What the console asks Elasticsearch: numbers once for all who look, documents each time."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from llmlog_common.errors import ElasticsearchUnreachable
from llmlog_common.settings import load
from llmlog_consumer.console.queries.period import read_period
from llmlog_consumer.console.servers import FRESH_SECONDS, MAX_ANSWERS, Searcher
from support.fakes.console import answer
from support.pipeline import wait_until

SETTINGS = load(environ={})
NUMBERS = {"size": 0, "aggs": {}}


class FakeElastic:
    """Answers each question, once it may; or raises."""

    def __init__(self) -> None:
        self.asked: list[dict] = []
        self.may = threading.Event()
        self.may.set()
        self.error: Exception | None = None

    def request(self, _method, _path, *, body, **_options):
        self.asked.append(body)
        self.may.wait(30)
        if self.error is not None:
            raise self.error
        return SimpleNamespace(status=200)

    def body_of(self, _answer, _method, _path):
        return answer({"number": len(self.asked)})


def new_searcher(**options):
    elastic, now = FakeElastic(), [100.0]
    searcher = Searcher(SETTINGS, elastic, clock=lambda: now[0], **options)  # type: ignore[arg-type]
    return searcher, elastic, now


def test_numbers_are_asked_for_again_after_ten_seconds_and_documents_each_time() -> None:
    searcher, elastic, now = new_searcher()
    first = searcher.search(NUMBERS)
    assert searcher.search(dict(NUMBERS)) is first
    searcher.search(NUMBERS | {"query": {}})
    assert len(elastic.asked) == 2
    now[0] += FRESH_SECONDS
    assert searcher.search(NUMBERS) is not first
    for _ in range(2):
        searcher.search({"size": 50})
    assert len(elastic.asked) == 5


def test_ten_people_who_ask_at_once_ask_once() -> None:
    searcher, elastic, _ = new_searcher()
    elastic.may.clear()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(searcher.search(NUMBERS))) for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: elastic.asked)
    elastic.may.set()
    for thread in threads:
        thread.join(30)
    assert (len(found), len(set(map(id, found))), len(elastic.asked)) == (10, 1, 1)


def test_a_failure_is_not_kept() -> None:
    searcher, elastic, _ = new_searcher()
    elastic.error = ElasticsearchUnreachable("away")
    for number in (1, 2):
        with pytest.raises(ElasticsearchUnreachable, match="away"):
            searcher.search(NUMBERS)
        assert len(elastic.asked) == number
    elastic.error = None
    assert searcher.search(NUMBERS).hits


def test_who_waits_too_long_for_the_answer_of_another_is_told() -> None:
    searcher, elastic, _ = new_searcher(wait_seconds=0.01)
    elastic.may.clear()
    first = threading.Thread(target=searcher.search, args=(NUMBERS,))
    first.start()
    wait_until(lambda: elastic.asked)
    with pytest.raises(ElasticsearchUnreachable, match="try again"):
        searcher.search(NUMBERS)
    elastic.may.set()
    first.join(30)


def test_so_many_answers_are_kept_and_no_more() -> None:
    searcher, elastic, _ = new_searcher()
    for number in range(MAX_ANSWERS + 1):
        searcher.search(NUMBERS | {"n": number})
    searcher.search(NUMBERS | {"n": MAX_ANSWERS})
    assert len(elastic.asked) == MAX_ANSWERS + 1
    searcher.search(NUMBERS | {"n": 0})
    assert len(elastic.asked) == MAX_ANSWERS + 2


def test_people_who_look_within_ten_seconds_look_at_one_period() -> None:
    now_ms = 1_790_000_000_000
    assert read_period({}, now_ms) == read_period({}, now_ms + 9_999)
    assert read_period({}, now_ms) != read_period({}, now_ms + 10_000)
    assert read_period({}, now_ms + 9_999).until_ms > now_ms + 9_999
