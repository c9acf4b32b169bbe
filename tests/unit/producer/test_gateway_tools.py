"""What ships beside the callback: check, metrics, and the double for users' tests."""

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from llmlog_common.errors import ConfigurationError
from llmlog_common.settings import load
from llmlog_local.ports import free_ports
from llmlog_producer import metrics
from llmlog_producer.__main__ import main
from llmlog_producer.check import check, check_gateway
from llmlog_producer.counters import COUNTERS, GAUGES, HookTimes, Stats
from llmlog_producer.journal.journal import Journal
from llmlog_producer.testing import document_of, recorder
from support.payloads import payload

DOCS = Path(__file__).parents[3] / "docs/producer.md"


@pytest.fixture
def findings(tmp_path):
    """Return the findings of the check about everything but Kafka, by the thing checked."""

    def look(config=None, **environ):
        environ = {f"LLMLOG_{name.upper()}": value for name, value in environ.items()}
        environ.setdefault("LLMLOG_JOURNAL_DIR", str(tmp_path / "spool"))
        return {finding.what: finding for finding in check_gateway(load(environ=environ), config)}

    return look


def test_check_says_what_the_settings_mean(findings, tmp_path):
    by_name = findings(topic="t", redact_messages="drop")
    assert by_name["settings"].message == "topic t at localhost:9092"
    assert "messages (drop)" in by_name["redaction"].message
    assert by_name["journal"].message == f"spill in {tmp_path}/spool/t, 0 events in it"
    assert not list((tmp_path / "spool/t").iterdir())
    assert by_name["handler"].exit_code == 2, "there is no LiteLLM in this environment"


def test_check_finds_what_is_wrong(findings, tmp_path):
    (tmp_path / "file").touch()
    by_name = findings(journal_dir=str(tmp_path / "file"), redact_function="no.such")
    assert "LLMLOG_JOURNAL_DIR" in by_name["journal"].message
    assert "LLMLOG_REDACT_FUNCTION" in by_name["redaction"].message
    assert by_name["journal"].exit_code == by_name["redaction"].exit_code == 2


NAMED = 'litellm_settings:\n  callbacks: ["llmlog_producer.callback.handler"]\n'
BOTH = (
    NAMED.replace("callbacks", "success_callback") + "  failure_callback: " + NAMED.split(": ")[1]
)


@pytest.mark.parametrize(
    ("config", "right"),
    [
        (NAMED, True),
        (NAMED.replace("[", "").replace("]", ""), True),
        (BOTH, True),
        ("include: [included.yaml]", True),
        (NAMED.replace("callbacks", "success_callback"), False),
        (NAMED.replace("llmlog", "other"), False),
        ("litellm_settings: 1", False),
        ("[]", False),
        ("{", False),
        ("", False),
    ],
)
def test_check_reads_the_proxys_configuration(findings, tmp_path, config, right):
    (tmp_path / "included.yaml").write_text(NAMED)
    (tmp_path / "config.yaml").write_text(config)
    finding = findings(config=tmp_path / "config.yaml")["registration"]
    assert finding.exit_code == (0 if right else 2), finding.message


def test_check_sees_a_file_that_would_be_loaded_instead(findings, tmp_path):
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "llmlog_producer").mkdir()
    (tmp_path / "llmlog_producer/callback.py").touch()
    settings = load(environ={"LLMLOG_JOURNAL": "off"})
    messages = [f.message for f in check(settings, tmp_path / "config.yaml") if f.exit_code == 2]
    assert any("remove it" in line for line in messages)


def test_check_without_kafka_names_it_and_prints_no_secret(monkeypatch, capsys, tmp_path):
    (closed,) = free_ports(1)
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "JOURNAL_DIR", "KAFKA_SASL_PASSWORD"):
        value = {"K": f"127.0.0.1:{closed}", "J": str(tmp_path)}[name[0]]
        monkeypatch.setenv(f"LLMLOG_{name}", "hunter2" if "PASSWORD" in name else value)
    assert main(["check"], kafka_seconds=0.5) == 2, "LiteLLM is missing too, and was found first"
    output = capsys.readouterr()
    assert re.search(rf"(?m)^WRONG  kafka: 127.0.0.1:{closed}: .*is it running", output.out)
    assert "2 wrong: see above what to do" in output.err
    assert "hunter2" not in output.out + output.err


def test_check_names_a_wrong_kafka_property(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("LLMLOG_JOURNAL_DIR", str(tmp_path))
    monkeypatch.setenv("LLMLOG_KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    monkeypatch.setenv("LLMLOG_KAFKA_PRODUCER_NO_SUCH", "1")
    assert main(["check"]) == 2
    assert re.search(r"(?m)^WRONG  kafka: .*no\.such", capsys.readouterr().out)


def test_a_journal_that_cannot_be_opened_is_not_sent(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLMLOG_JOURNAL_DIR", str(tmp_path / "file"))
    assert main(["journal", "send", "--timeout", "30"]) == 2
    assert "file" in capsys.readouterr().err


def test_wrong_settings_end_a_command_with_code_2(monkeypatch, capsys):
    monkeypatch.setenv("LLMLOG_BOGUS", "1")
    assert main(["journal", "show"]) == 2
    assert "LLMLOG_BOGUS" in capsys.readouterr().err


def source(stats=None):
    times = HookTimes()
    times.observe(0.0002)
    times.observe(0.0005)
    times.observe(5.0)
    journal = {"journal_bytes": 512, "journal_limit_bytes": 1024, "journal_age_seconds": 7.0}
    return metrics.Source((stats or Stats()).snapshot, lambda: journal, lambda: times)


def test_the_counters_are_metrics():
    stats = Stats()
    stats.add("accepted", 3)
    stats.add("delivered", 2)
    before = set(REGISTRY._collector_to_names)
    assert metrics.expose(source(stats))
    try:
        assert not metrics.expose(source(stats)), "a second handler is left out"
        page = generate_latest().decode()
    finally:
        for collector in set(REGISTRY._collector_to_names) - before:
            REGISTRY.unregister(collector)
    assert "llmlog_gateway_accepted_total 3.0" in page
    assert "llmlog_gateway_pending 1.0" in page
    assert "llmlog_gateway_journal_bytes 512.0" in page
    assert "llmlog_gateway_journal_age_seconds 7.0" in page
    assert 'llmlog_gateway_hook_seconds_bucket{le="0.00025"} 1.0' in page
    assert 'llmlog_gateway_hook_seconds_bucket{le="0.0005"} 2.0' in page
    assert 'llmlog_gateway_hook_seconds_bucket{le="+Inf"} 3.0' in page
    assert {name for name in COUNTERS if f"{metrics.PREFIX}{name}_total" in page} == set(COUNTERS)


WRITES = """
import sys
import prometheus_client
from llmlog_producer.counters import HookTimes, Stats
from llmlog_producer.metrics import Source, Writer
stats, times = Stats(), HookTimes()
journal = {"journal_bytes": int(sys.argv[1])}
writer = Writer(Source(stats.snapshot, lambda: journal, lambda: times), prometheus_client)
for _ in range(2):
    stats.add("accepted", int(sys.argv[1]))
    times.observe(0.0001)
    writer.write()
"""


def test_several_processes_are_one_scrape(tmp_path):
    """Each is a process of its own, as prometheus-client decides at its import where to write."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for number in ("3", "10"):
        subprocess.run([sys.executable, "-c", WRITES, number], env=environment, check=True)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(tmp_path))
    page = generate_latest(registry).decode()
    assert "llmlog_gateway_accepted_total 26.0" in page
    assert 'llmlog_gateway_hook_seconds_bucket{le="0.0001"} 4.0' in page
    # Both have ended; prometheus-client drops their gauges
    # where its `mark_process_dead` is called. Here they are still there: the greatest value.
    assert "llmlog_gateway_journal_bytes 10.0" in page


NO_FOLDER = """
import pathlib, sys
import prometheus_client
from llmlog_common.throttled_log import flush_lines
from llmlog_producer.counters import HookTimes, Stats
from llmlog_producer.metrics import Source, Writer, expose
journal = lambda: {"journal_bytes": 1}
stats, times, folder = Stats(), HookTimes(), pathlib.Path(sys.argv[1])
stats.add("accepted", 3)
writer = Writer(Source(stats.snapshot, journal, lambda: times), prometheus_client)
writer.try_write()
expose(Source(Stats().snapshot, journal, HookTimes))  # a hook calls it
folder.mkdir()
writer.try_write()
writer.try_write()
flush_lines(5)
"""


def test_a_folder_of_metrics_that_is_not_there_yet_stops_no_event(tmp_path):
    folder = tmp_path / "later"
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    command = [sys.executable, "-c", NO_FOLDER, str(folder)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert "metrics stand still" in done.stderr
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    assert "llmlog_gateway_accepted_total 3.0" in generate_latest(registry).decode()


FAILS_ONCE = """
from types import SimpleNamespace
from llmlog_producer.counters import HookTimes, Stats
from llmlog_producer.metrics import Source, Writer

made, refused = set(), set()

class Metric:
    def __init__(self, name, *_, **__):
        if name.endswith("failed") and name not in refused:
            refused.add(name)
            raise OSError("no room")
        assert name not in made, "as prometheus-client has it"
        made.add(name)
        self.name, self.value, self.faults = name, 0, name.endswith("delivered")
    def inc(self, number):
        self.faults, fails = False, self.faults
        if fails:
            raise OSError("no room")
        self.value += number
        print(self.name, number)

journal = lambda: {"journal_bytes": 1}
client = SimpleNamespace(Counter=Metric, Gauge=Metric, Histogram=Metric)
stats, times = Stats(), HookTimes()
stats.add("accepted", 3)
stats.add("delivered", 2)
writer = Writer(Source(stats.snapshot, journal, lambda: times), client)
Metric.set = lambda *_: None
for _ in range(4):
    writer.try_write()
"""


def test_what_is_written_before_a_fault_is_counted_once():
    done = subprocess.run(
        [sys.executable, "-c", FAILS_ONCE], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["llmlog_gateway_accepted 3", "llmlog_gateway_delivered 2"]


def test_the_age_of_a_journal_is_that_of_its_oldest_file(tmp_path):
    journal, other = Journal(tmp_path, 1 << 20), Journal(tmp_path, 1 << 20)
    journal.open()
    other.open()
    assert journal.measure() == (0, 0.0)
    (segment,) = journal.append([b"x" * 100], taken=True)
    size, age = journal.measure()
    assert size >= 100
    assert 0 <= age < 30
    journal.settle(segment)
    assert journal.measure()[1] == 0.0
    other.append([b"x" * 100], taken=True)
    (file,) = (path for path in tmp_path.glob("*.journal") if path.stat().st_size)
    owner, identity, kind = file.name.split(".")
    earlier = int(identity[:14], 16) - 60_000_000
    file.rename(tmp_path / f"{owner}.{earlier:014x}{identity[14:]}.{kind}")
    journal.adopt()
    size, age = journal.measure()
    assert size >= 100
    assert 30 < age < 90
    journal.release()
    other.release()


def test_without_prometheus_client_there_are_no_metrics(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert not metrics.expose(source())


def test_every_counter_is_documented():
    documented = set(re.findall(r"(?m)^\| `(\w+)` \|", DOCS.read_text().split("## Counters")[1]))
    assert documented == {*COUNTERS, *GAUGES}


def test_a_document_is_what_would_be_indexed():
    given = payload(1, response_cost=None, metadata={"email": "eve@example.org"}, tomorrow=1)
    document = document_of(given, redact_fields=["metadata.email"], search_text=False)
    assert document["metadata"] == {"email": "<redacted>"}
    assert document["messages"] == given["messages"]
    assert document["startTime"] == int(given["startTime"] * 1000)
    assert document["request_tags"] == ["a", "b"]
    assert document["extra"] == {"tomorrow": 1, "llmlog_redacted": ["metadata.email"]}
    assert "response_cost" not in document
    assert "messages_text" not in document
    assert given["metadata"] == {"email": "eve@example.org"}


def test_a_wrong_setting_of_a_test_is_refused():
    with pytest.raises(ConfigurationError, match="LLMLOG_REDACT_MESSAGE:"):
        document_of({}, redact_message="drop")


def test_the_documented_test_passes():
    (source,) = re.findall(r"(?ms)^```python\n(.*?document_of.*?)^```", DOCS.read_text())
    namespace = {}
    exec(source, namespace)
    namespace["test_no_email_leaves"]()


def test_a_recorder_keeps_one_document_for_each_event(monkeypatch):
    logger = types.ModuleType("litellm.integrations.custom_logger")
    logger.CustomLogger = type("CustomLogger", (), {})
    monkeypatch.setitem(sys.modules, "litellm", types.ModuleType("litellm"))
    monkeypatch.setitem(sys.modules, "litellm.integrations", types.ModuleType("integrations"))
    monkeypatch.setitem(sys.modules, "litellm.integrations.custom_logger", logger)
    recording = recorder(redact_messages="mask")
    assert isinstance(recording, logger.CustomLogger)
    told = {"response_obj": None, "start_time": None, "end_time": None}
    for seed in (1, 1, 10):
        recording.log_success_event(kwargs={"standard_logging_object": payload(seed)}, **told)
    recording.log_failure_event(kwargs={}, **told)
    assert [document["status"] for document in recording.wait_for(2)] == ["success", "failure"]
    assert recording.documents[0]["messages"] == [{"role": "user", "content": "<redacted>"}]
    with pytest.raises(TimeoutError, match="2 documents"):
        recording.wait_for(3, timeout=0.01)
