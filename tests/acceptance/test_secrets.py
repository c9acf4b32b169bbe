"""Secrets from outside: in no output of a command, and read again while a worker runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.payloads import ndjson, payload
from support.pipeline import Pipeline, wait_until

SECRET = "s3cr3tPassw0rd"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"ELASTICSEARCH_API_KEY": f"{SECRET}\nx"}, "ELASTICSEARCH_API_KEY: it cannot be sent"),
        ({"ELASTICSEARCH_API_KEY": f"{SECRET}é"}, "ELASTICSEARCH_API_KEY: it cannot be sent"),
        ({"ELASTICSEARCH_BEARER_AUTH": f"{SECRET}\r\nX: y"}, "BEARER_AUTH: it cannot be sent"),
        ({"ELASTICSEARCH_URL": f"http://elastic:{SECRET},x@127.0.0.1:1"}, "http://127.0.0.1:1"),
        ({"ELASTICSEARCH_URL": f"http://elastic:{SECRET}@a@127.0.0.1:1"}, "http://127.0.0.1:1"),
        ({"ELASTICSEARCH_URL": f"https//elastic:{SECRET}@es:9200"}, "has to begin with http"),
        ({"ELASTICSEARCH_URL": f"http://127.0.0.1:1/?api_key={SECRET}"}, "a query"),
        ({"ELASTICSEARCH_CLOUD_ID": SECRET}, "CLOUD_ID"),
        ({"KAFKA_SSL_KEY_PEM": SECRET, "KAFKA_SECURITY_PROTOCOL": "SSL"}, "Kafka settings"),
        ({"KAFKA_SASL_JAAS_CONFIG": SECRET}, "Kafka settings"),
        ({"KAFKA_SASL_PASWORD": SECRET}, "Kafka settings"),
        ({"KAFKA_SASL_PASSWORD": SECRET, "KAFKA_SASL_PASSWORD_FILE": "/x"}, "not both"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_secret_that_cannot_be_used_is_in_no_line(
    bare_pipeline: Pipeline, environment: dict[str, str], said: str
) -> None:
    bare_pipeline.environment["LLMLOG_COMMAND_PATIENCE"] = "1 s"
    for name, value in environment.items():
        bare_pipeline.environment[f"LLMLOG_{name}"] = value
    done = bare_pipeline.run("setup", check=False)
    assert done.returncode in {2, 4}, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def gate(target: str, key: Path) -> Iterator[str]:
    """Serve Elasticsearch to those who send the key that this file holds."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            pass

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, content, headers = 401, b"<html>401</html>", {"content-type": "text/html"}
            if self.headers.get("authorization") == f"ApiKey {key.read_text().strip()}":
                names = ("content-type", "accept")
                passed = {name: self.headers[name] for name in names if self.headers.get(name)}
                url = target + self.path
                answer = client.request(self.command, url, content=body, headers=passed)
                status, content = answer.status_code, answer.content
                headers = {
                    name: answer.headers[name]
                    for name in ("content-type", "x-elastic-product")
                    if name in answer.headers
                }
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do  # noqa: N815 - the library calls them so

    client = httpx.Client(timeout=60)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    client.close()


def test_a_running_worker_goes_on_with_the_new_key_of_its_file(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    key, valid = tmp_path / "key", tmp_path / "valid"
    for file in (key, valid):
        file.write_text("a2V5OnNlY3JldDE=\n")
    with gate(pipeline.elasticsearch, valid) as url:
        pipeline.environment |= {
            "LLMLOG_ELASTICSEARCH_URL": url,
            "LLMLOG_ELASTICSEARCH_API_KEY_FILE": str(key),
        }
        process = pipeline.start("consume", "--workers", "1")
        pipeline.run("produce", "-", input=ndjson([payload(seed) for seed in range(10)]))
        wait_until(lambda: pipeline.count() == 10, what="the first are indexed")
        valid.write_text("a2V5OnNlY3JldDI=\n")
        pipeline.run("produce", "-", input=ndjson([payload(seed) for seed in range(10, 20)]))
        key.write_text("half of a key")
        wait_until(lambda: "values read before are kept" in pipeline.stderr_of(process))
        key.write_text("a2V5OnNlY3JldDI=\n")
        wait_until(lambda: pipeline.count() == 20, what="the others are indexed")
        assert f"credentials read again from {key}" in pipeline.stderr_of(process)
        assert "a2V5OnNlY3JldD" not in pipeline.stderr_of(process)
