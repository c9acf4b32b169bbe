"""Two proxies before a real Elasticsearch, as two nodes: one of them goes wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from llmlog_common.settings import load
from llmlog_consumer.elasticsearch.connection import Elastic
from llmlog_consumer.elasticsearch.index_names import daily_index
from llmlog_local.ports import free_ports
from support.fault_proxy import HOST, FaultProxy
from support.pipeline import Pipeline, wait_until

DOCUMENT = b'{"create":{"_index":"%s"}}\n{"@timestamp":%d,"model":"%s"}\n'


@pytest.fixture
def proxies(pipeline: Pipeline) -> Iterator[list[FaultProxy]]:
    target = int(pipeline.elasticsearch.rsplit(":", 1)[1])
    made = [FaultProxy(target, port) for port in free_ports(2)]
    for proxy in made:
        proxy.start()
    yield made
    for proxy in made:
        proxy.mend()
        proxy.close()


@pytest.fixture
def elastic(proxies: list[FaultProxy]) -> Iterator[Elastic]:
    urls = ",".join(f"http://{HOST}:{proxy.port}" for proxy in proxies)
    one = Elastic(load(environ={"LLMLOG_ELASTICSEARCH_URL": urls}))
    yield one
    one.close()


FAULTS: dict[str, tuple[Callable[[FaultProxy], None], str]] = {
    "dead": (FaultProxy.stop, "refused"),
    "hanging": (FaultProxy.hang, "no answer in time"),
    "cut off": (lambda proxy: proxy.cut_after(10), ""),
    "a page": (lambda proxy: proxy.answer("200 OK", b"<html>hello</html>"), "not of Elastic"),
    "a gateway": (lambda proxy: proxy.answer("502 Bad Gateway", b"no upstream"), "502"),
    "a wall": (lambda proxy: proxy.answer("403 Forbidden", b"<html>no</html>"), "403"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_node_that_goes_wrong_costs_no_request_and_is_named(
    pipeline: Pipeline, proxies: list[FaultProxy], elastic: Elastic, kind: str
) -> None:
    bad, _ = proxies
    break_it, said = FAULTS[kind]
    now_ms = int(time.time() * 1000)
    index = daily_index(pipeline.index, now_ms)  # which `setup` has created
    body = DOCUMENT % (index.encode(), now_ms, b"x" * 1000)

    def send() -> float:
        began = time.monotonic()
        answer = elastic.request("POST", "/_bulk", body=body)
        assert answer.good, answer
        assert answer.body["errors"] is False, answer
        return time.monotonic() - began

    wait_until(lambda: send() and all(proxy.connections for proxy in proxies))
    break_it(bad)
    wait_until(lambda: send() and elastic.notice, what="it is named")
    assert f"node http://{HOST}:{bad.port}: " in elastic.notice
    assert said in elastic.notice
    assert max(send() for _ in range(5)) < 5  # and not the 60 s of a request
    if kind == "dead":
        bad.start()
    bad.mend()
    before = bad.connections
    wait_until(lambda: send() and not elastic.notice, what="it is back")
    assert bad.connections >= before


def test_requests_under_way_at_a_node_that_hangs_go_to_another(
    pipeline: Pipeline, proxies: list[FaultProxy], elastic: Elastic
) -> None:
    bad, _ = proxies
    wait_until(lambda: elastic.request("GET", "/").good and all(p.connections for p in proxies))
    bad.hang()
    answers: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda: answers.extend(elastic.request("GET", "/").good for _ in range(3)),
            daemon=True,
        )
        for _ in range(4)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(55)
    assert answers == [True] * 12
    assert time.monotonic() - began < 40
