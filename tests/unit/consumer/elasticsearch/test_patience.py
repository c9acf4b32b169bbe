"""How commands ask again: what counts as an answer, how long, and which node is next."""

import socket
import threading
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlog_common.errors import ElasticsearchError, ElasticsearchUnreachable
from llmlog_common.settings import load
from llmlog_consumer.backoff import Backoff
from llmlog_consumer.elasticsearch.connection import Answer
from llmlog_consumer.elasticsearch.patience import (
    Patience,
    PatientElastic,
    describe_gap,
    describe_trouble,
)
from support.fakes.service import Clock

GOOD = Answer(200, {"hits": {}})
NOT_NOW = Answer(503, {"error": {"type": "master_not_discovered_exception", "reason": "none"}})
REFUSED = ElasticsearchUnreachable("Elasticsearch at nowhere: Connection refused")
NO_ELASTICSEARCH = ElasticsearchError("nowhere answers, but is no Elasticsearch")


class Server:
    """Gives these answers, the last one again and again; time passes while commands sleep."""

    def __init__(self, *answers, seconds=30.0, nodes=1, takes=0.0):
        self.answers, self.takes = list(answers), takes
        self.asked, self.said, self.slept = 0, [], []
        self.clock = Clock()
        self.patience = Patience(
            seconds,
            nodes=nodes,
            announce=self.said.append,
            backoff=Backoff(1.0, 4.0),
            clock=self.clock,
            sleep=self.sleep,
        )

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.clock.now += seconds

    def ask(self):
        return self.patience.ask(self.answer)

    def answer(self):
        self.asked += 1
        self.clock.now += self.takes
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize("trouble", [NOT_NOW, REFUSED, Answer(429, {}), Answer(502, "<html>")])
def test_what_does_not_answer_now_is_asked_again(trouble):
    server = Server(trouble, trouble, GOOD)
    assert server.ask() is GOOD
    assert server.asked == 3
    assert server.said == []


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 409, 413, 501, 505])
def test_an_answer_that_says_yes_or_no_counts_at_once(status):
    server = Server(Answer(status, {}))
    assert server.ask().status == status
    assert server.asked == 1


def test_an_absent_server_is_an_error_after_the_time_and_not_before():
    server = Server(REFUSED)
    with pytest.raises(ElasticsearchUnreachable, match=r"refused: asked \d+ times, 30 s long"):
        server.ask()
    assert sum(server.slept) == pytest.approx(30.0)
    (said,) = server.said
    assert said.startswith("waiting up to 2")
    assert "Connection refused" in said


def test_the_last_not_now_is_returned_after_the_time():
    server = Server(NOT_NOW)
    assert server.ask() is NOT_NOW
    assert sum(server.slept) == pytest.approx(30.0)


def test_a_node_that_hangs_for_longer_than_the_time_is_not_the_last_one_asked():
    server = Server(REFUSED, GOOD, takes=60.0)
    assert server.ask() is GOOD


def test_the_time_counts_since_the_last_good_answer():
    server = Server(NOT_NOW)
    server.ask()
    before = server.asked
    server.ask()
    assert server.asked == before + 1, "the time is over for the next request too"
    server.answers = [GOOD]
    server.ask()
    server.answers = [NOT_NOW, NOT_NOW, GOOD]
    assert server.ask() is GOOD


def test_the_time_that_the_server_asks_for_is_waited():
    server = Server(Answer(429, {}, retry_after=7.0), GOOD)
    server.ask()
    assert server.slept == [7.0]


def test_a_server_that_asks_for_more_than_there_is_is_asked_once_more_at_the_end():
    server = Server(Answer(429, {}, retry_after=300.0))
    assert server.ask().status == 429
    assert server.asked == 2
    assert sum(server.slept) == pytest.approx(30.0)


def test_a_node_that_is_no_elasticsearch_is_passed_over_once_for_each_node():
    server = Server(NO_ELASTICSEARCH, GOOD, nodes=2)
    assert server.ask() is GOOD
    server = Server(NO_ELASTICSEARCH, nodes=3)
    with pytest.raises(ElasticsearchError, match="no Elasticsearch"):
        server.ask()
    assert server.asked == 3
    assert server.slept == []


@given(st.lists(st.sampled_from([NOT_NOW, REFUSED, Answer(429, {}, 2.5), GOOD]), max_size=40))
def test_the_first_good_answer_is_returned_within_the_time(answers):
    server = Server(*answers, REFUSED)
    try:
        answer = server.ask()
    except ElasticsearchUnreachable:
        answer = None
    assert sum(server.slept) <= 30.0 + 1e-6
    given_out = (*answers, REFUSED)[: server.asked]
    assert GOOD not in given_out[:-1]
    if answer is not GOOD:
        assert sum(server.slept) == pytest.approx(30.0)


FAILED_SHARD = {"shard": 0, "index": "logs-1", "reason": {"type": "no_shard_available"}}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"_shards": {"failed": 2, "total": 7}}, "2 of 7 shards"),
        ({"_shards": {"failed": 1, "total": 7, "failures": [FAILED_SHARD]}}, "logs-1: no_shard"),
        ({"_shards": {"failed": 1}}, "1 of ? shards"),
        ({"timed_out": True}, "time-out"),
        (
            {"docs": [{"_index": "a", "error": {"type": "no_shard_available_action_exception"}}]},
            "shard of a",
        ),
    ],
)
def test_a_part_of_an_answer_is_asked_for_again_and_named(body, words):
    assert words in describe_gap(body)
    assert Server(Answer(200, body), GOOD).ask() is GOOD


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "text",
        None,
        {"_shards": {"failed": 0, "total": 3}},
        {"_shards": None},
        {"docs": None},
        {"timed_out": False, "docs": [{"found": False}, {"error": {"type": "index_not_found"}}]},
    ],
)
def test_a_whole_answer_is_not_asked_for_again(body):
    assert describe_trouble(Answer(200, body)) == ""


HTTP = (
    b"HTTP/1.1 200 OK\r\nx-elastic-product: Elasticsearch\r\n"
    b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
)


@pytest.fixture
def answering_node():
    """Start nodes that give each request the same bytes; return their address."""
    with ExitStack() as stack:

        def start(answer):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            thread = threading.Thread(target=serve, args=(listener, answer))
            thread.start()
            stack.callback(thread.join)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield start


def serve(listener, answer):
    with ExitStack() as stack:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            stack.enter_context(connection)
            thread = threading.Thread(target=talk, args=(connection, answer))
            thread.start()


def talk(connection, answer):
    with suppress(OSError):
        while connection.recv(65_536):
            connection.sendall(answer)


@pytest.mark.parametrize("first", ["refuses", "hangs"])
def test_the_next_node_is_asked_when_the_first_is_down(first, answering_node):
    with ExitStack() as stack:
        down = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        down_url = f"http://127.0.0.1:{down.getsockname()[1]}"
        if first == "refuses":
            down.close()
        urls = f"{down_url},{answering_node(HTTP)}"
        elastic = PatientElastic(load(environ={"LLMLOG_ELASTICSEARCH_URL": urls}), timeout=0.3)
        for _ in range(8):
            assert elastic.demand("GET", "/") == {}
        elastic.close()


def test_a_setting_says_how_long():
    settings = load(
        environ={
            "LLMLOG_ELASTICSEARCH_URL": "http://127.0.0.1:1",
            "LLMLOG_COMMAND_PATIENCE": "1 ms",
        }
    )
    with pytest.raises(ElasticsearchUnreachable, match=r"0\.001 s long"):
        PatientElastic(settings).request("GET", "/")
