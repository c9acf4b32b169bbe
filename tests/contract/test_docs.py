"""The reference matches the code: commands, options, settings, exit codes, schema, JSON."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from typer.main import get_command

from llmlog_common import errors, kafka_clients
from llmlog_common.kafka_properties import REFUSED
from llmlog_common.setting_sources import PREFIX
from llmlog_common.settings import describe, load
from llmlog_common.units import parse_bytes
from llmlog_consumer.checks.doctor.findings import Check, as_json, examine, red
from llmlog_consumer.checks.proof import Proof
from llmlog_consumer.checks.report import build_report
from llmlog_consumer.checks.status import Health, PartitionStatus, Status
from llmlog_consumer.cli.app import app
from llmlog_consumer.dead_letters.letter import DeadLetter
from llmlog_consumer.dead_letters.stats import Stats
from llmlog_consumer.kafka.places import Log, Place
from llmlog_schemas.codec import current_fingerprint, schema_text
from support.commands import leaves
from support.wire_page import event_section, page_with_event

ROOT = Path(__file__).parents[2]
CLI = (ROOT / "docs/cli.md").read_text()
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()
WIRE = (ROOT / "docs/wire-format.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

OF_PIPELINE = {"--install-completion", "--show-completion", "--version"}
KUBERNETES = ("_SERVICE_HOST", "_TCP")
KAFKA_TABLES = {"kafka", "kafka_producer", "kafka_consumer"}


COMMANDS = dict(leaves(get_command(app), "pipeline"))
GROUPS = {name.rpartition(" ")[0] for name in COMMANDS}
SECTIONS = {
    title: body
    for title, _, body in (part.partition("\n") for part in re.split(r"(?m)^## ", CLI)[1:])
    if title.startswith("pipeline ")
}


WITHOUT_JSON = {
    "pipeline dlq export": "it writes NDJSON anyway",
    "pipeline local logs": "it prints the lines of servers",
    "pipeline console": "it serves pages",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_prints_json_where_it_prints_a_result(name):
    assert ("--json" in options_of(COMMANDS[name])) is (name not in WITHOUT_JSON)
    if name in WITHOUT_JSON:
        assert f"`{name}`" in CLI.split("has `--json`")[1].partition("`NO_COLOR`")[0]


def options_of(command):
    """Return the long names of a command's options, without --help."""
    names = {name for p in command.params for name in p.opts if name.startswith("--")}
    return names - {"--help"}


def arguments_of(command):
    """Return the words of each argument that has a metavar."""
    return [
        set(re.findall(r"\w+", parameter.metavar))
        for parameter in command.params
        if parameter.param_type_name == "argument" and parameter.metavar
    ]


def rows(text):
    """Return the cells of every table row, headings and rules left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    ruled = [at for at, line in enumerate(lines) if set(line) <= set("|- ")]
    left_out = {*ruled, *(at - 1 for at in ruled)}
    return [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for at, line in enumerate(lines)
        if at not in left_out
    ]


def code_in(text):
    """Return code blocks and inline code: where commands are named as commands."""
    blocks = re.findall(r"(?ms)^```.*?^```", text) + re.findall(r"(?m)^    .*$", text)
    return [*blocks, *re.findall(r"`([^`\n]+)`", text)]


# docs/cli.md


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section(name):
    assert name in SECTIONS, f"docs/cli.md: add `## {name}` with synopsis, option table, example"


def test_every_section_is_a_command():
    unknown = SECTIONS.keys() - COMMANDS.keys()
    assert not unknown, f"docs/cli.md: take out {sorted(unknown)}: no such command"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_overview_names_every_command(name):
    anchor = "#" + name.replace(" ", "-")
    row = f"| [`{name}`]({anchor}) |"
    assert row in CLI, f"docs/cli.md: add to the table at the top: {row} … |"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_row_and_every_row_is_an_option(name):
    table = {
        option
        for cells in rows(SECTIONS[name])
        for option in re.findall(r"^`(--[a-z-]+)", cells[0])
    }
    expected = options_of(COMMANDS[name])
    assert not expected - table, f"docs/cli.md, {name}: add rows for {sorted(expected - table)}"
    assert not table - expected, f"docs/cli.md, {name}: no such option {sorted(table - expected)}"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_synopsis_names_every_option_and_argument(name):
    synopsis, *_ = re.findall(r"(?m)(?:^    .*\n)+", SECTIONS[name])
    assert synopsis.strip().startswith(name), f"docs/cli.md, {name}: begin with the synopsis"
    named = set(re.findall(r"--[a-z-]+", synopsis))
    assert named == options_of(COMMANDS[name]), f"docs/cli.md, {name}: the synopsis"
    for words in arguments_of(COMMANDS[name]):
        missing = words - set(re.findall(r"[\w-]+", synopsis))
        assert not missing, f"docs/cli.md, {name}: the synopsis lacks {sorted(missing)}"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_section_has_an_example(name):
    assert re.search(rf"Example:\n\n    .*{name}", SECTIONS[name]), f"docs/cli.md, {name}: Example:"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name):
    command = COMMANDS[name]
    words = f"{command.help or ''} {command.epilog or ''}"
    assert f"Example: {name}" in words or f"$({name}" in words, f"{name} --help: add an example"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_command_or_option_that_does_not_exist(page):
    """`pipeline x --y` in code: x has to be a command, and --y an option of it."""
    for code in code_in(page.read_text()):
        for line in code.replace("\\\n", " ").splitlines():
            for words in re.findall(r"(?:^|[\s(\"`])pipeline((?: [^\s)\"`;#&]+)+)", line):
                name, given = _named(words.split())
                allowed = options_of(COMMANDS[name]) if name in COMMANDS else OF_PIPELINE
                known = name in COMMANDS or name in GROUPS
                assert known, f"{page.name}: `{line.strip()}`: there is no `{name}`"
                unknown = given - allowed - {"--help"}
                assert not unknown, f"{page.name}: `{line.strip()}`: no such option {unknown}"


def _named(words):
    """Return the command that words behind `pipeline` name, and the options that they give it."""
    name = "pipeline"
    while name in GROUPS and words and re.fullmatch("[a-z][a-z-]*", words[0]):
        name += f" {words.pop(0)}"
    return name, {option for word in words for option in re.findall("^--[a-z-]+", word)}


def test_options_that_the_reference_names_exist():
    every = {"--help", *OF_PIPELINE}.union(*map(options_of, COMMANDS.values()))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", CLI))
    assert named <= every, f"docs/cli.md: no such option {sorted(named - every)}"


def exit_codes():
    codes = {0, 1, *(health.exit_code for health in Health)}
    for found in vars(errors).values():
        if isinstance(found, type) and issubclass(found, Exception):
            codes.add(found.exit_code)
    return codes


def test_exit_codes_are_those_of_the_errors():
    section = CLI.split("## Exit codes")[1].split("\n## ")[0]
    documented = [int(cells[0]) for cells in rows(section)]
    assert documented == sorted(exit_codes()), "docs/cli.md, Exit codes"


def json_in(name):
    (block,) = re.findall(r"(?ms)^```json\n(.*?)^```", SECTIONS[name])
    return json.loads(block)


def shape(value):
    """Return the keys of an object at every level; of a list those of its first item."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    return None


def letter():
    headers = {"es.status": "400"}
    return DeadLetter("t", 0, 0, None, None, headers, 0).as_json(recovered=False)


def letter_stats():
    from support.messages import Message

    counted = Stats()
    counted.add([Message()])
    return counted.as_json()


def current_status():
    partition = PartitionStatus(Place("t", 0, 1, Log(0, 1, 1)), 0, "host/0")
    return Status("t", "g", "stable", 1, [partition]).as_json()


def findings():
    check = Check("topic.exists", "?", (), lambda: red("seen", "mend"))
    return as_json(list(examine([check], {})))


def report():
    bucket = {
        "key": "m",
        "doc_count": 1,
        "failures": {"doc_count": 0},
        "total_cost": {"value": 0},
        "tokens": {"value": 0},
        "avg_response_time": {"value": 0},
    }
    percentiles = {"50.0": 1, "95.0": 1, "99.0": 1}
    aggregations = {
        "models": {"buckets": [bucket]},
        "avg_response_time": {"value": 0},
        "percentiles": {"values": percentiles},
    }
    numbers = {"hits": {"total": {"value": 1}}, "aggregations": aggregations}
    return build_report(numbers, {"hits": {"hits": [{"_source": {}}]}}, ["one index"])


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("pipeline dlq list", letter),
        ("pipeline dlq stats", letter_stats),
        ("pipeline status", current_status),
        ("pipeline doctor", findings),
        ("pipeline report", report),
    ],
)
def test_documented_json_has_the_shape_of_the_printed_json(name, build):
    assert shape(json_in(name)) == shape(build()), f"docs/cli.md, {name}: JSON"


def test_documented_json_of_verify():
    assert list(json_in("pipeline verify")) == list(Proof().as_json())


def test_documented_json_of_version(capsys):
    from llmlog_consumer.cli.version import version

    version(as_json=True)
    assert list(json_in("pipeline version")) == list(json.loads(capsys.readouterr().out))


# docs/configuration.md


def documented_settings():
    """Return the default cell of each `LLMLOG_…` row."""
    found = [cells for cells in rows(CONFIGURATION) if cells[0].startswith(f"`{PREFIX}")]
    return {cells[0].strip("`").removeprefix(PREFIX).lower(): cells[1:] for cells in found}


def test_every_setting_is_documented_and_every_documented_setting_exists():
    documented = {name for name in documented_settings() if "<" not in name}
    expected = set(describe()) - KAFKA_TABLES
    add = sorted(PREFIX + name.upper() for name in expected - documented)
    take_out = sorted(PREFIX + name.upper() for name in documented - expected)
    assert not add, f"docs/configuration.md: add a row for {add}"
    assert not take_out, f"docs/configuration.md: no such setting {take_out}"


def test_the_ways_to_set_a_librdkafka_property_are_documented():
    patterns = {name for name in documented_settings() if "<" in name}
    assert patterns == {f"{table}_<property>" for table in KAFKA_TABLES}


def write_default(value):
    if value is None:
        return "none"
    if isinstance(value, timedelta):
        for name in ("days", "minutes", "seconds"):
            number, rest = divmod(value, timedelta(**{name: 1}))
            if not rest:
                return f"`{number} {name}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


@pytest.mark.parametrize("name", sorted(set(describe()) - KAFKA_TABLES))
def test_the_documented_default_is_the_default(name):
    derived = {"dlq_topic": "<topic>.dlq", "audit_topic": "<topic>.audit"}
    value = derived.get(name) or getattr(load(environ={}), name)
    assert name in documented_settings(), f"docs/configuration.md: add {PREFIX}{name.upper()}"
    default, meaning = documented_settings()[name]
    same = default == write_default(value)
    if isinstance(value, int) and not isinstance(value, bool):
        same = parse_bytes(default.strip("`")) == value  # 1 GiB is better read than its bytes
    assert same, (
        f"docs/configuration.md: default of {PREFIX}{name.upper()} is {write_default(value)}"
    )
    assert meaning


def test_settings_that_pages_name_exist():
    for page in PAGES:
        for name in re.findall(rf"\b{PREFIX}([A-Z][A-Z0-9_]*[A-Z0-9])\b", page.read_text()):
            setting = name.removesuffix("_FILE").lower()
            known = setting in describe() or setting.startswith("kafka_")
            assert known or name.endswith(KUBERNETES), f"{page.name}: no setting {PREFIX}{name}"


def test_refused_properties_are_documented():
    table = CONFIGURATION.split("| refused property |")[1].split("\n\n")[0]
    named = set(re.findall(r"(?m)^\| (`.*?`) \|", table))
    assert {name.strip("` ") for cell in named for name in cell.split(",")} == set(REFUSED)


def test_our_defaults_of_librdkafka_are_documented():
    table = CONFIGURATION.split("| property | of | our default |")[1].split("\n\n")[0]
    documented = dict(re.findall(r"\| `(.*?)` \| \w+ \| `(.*?)`", table))
    settings = load(environ={})
    ours = kafka_clients.producer_config(settings) | kafka_clients.consumer_config(settings)
    fixed = {*REFUSED, "enable.partition.eof"}
    assert documented == {name: str(value) for name, value in ours.items() if name not in fixed}


def test_the_file_and_the_environment_on_the_page_are_the_same_settings(tmp_path):
    first, *_ = re.findall(r"(?ms)^```sh\n(.*?)^```", CONFIGURATION)
    (toml,) = re.findall(r"(?ms)^```toml\n(.*?)^```", CONFIGURATION)
    file = tmp_path / "pipeline.toml"
    file.write_text(toml)
    environ = dict(re.findall(r"export (\w+)=(.*)", first))
    of_file = load(environ={}, config=file)
    assert load(environ=environ).model_dump() == of_file.model_dump()


# docs/wire-format.md


def test_the_fields_of_the_event_are_documented():
    schema = json.loads(schema_text())
    documented = [
        [cells[0].strip("`"), cells[1]]
        for cells in rows(WIRE.split("## The event\n")[1])
        if cells[1] in ("string", "long", "double", "bytes")
    ]
    assert documented == [[field["name"], field["type"]] for field in schema["fields"]]


def test_the_event_on_the_page_is_made_of_the_schema():
    assert page_with_event(WIRE) == WIRE, "run `make docs`"
    assert event_section() in WIRE


def test_the_fingerprint_is_documented():
    assert f"`{current_fingerprint()}`" in WIRE


# Every page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_a_file_and_a_heading(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = (page.parent / path) if path else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"(?m)^#+ (.*)$", linked.read_text())
            anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
            assert anchor in anchors, f"{page.name}: {target}"


def test_the_glossary_has_each_word_once():
    text = (ROOT / "docs/glossary.md").read_text()
    entries = re.findall(r"(?m)^- \*\*([^*]+)\*\*:", text)
    words = [word for entry in entries for word in entry.split(", ")]
    assert [word for word in words if words.count(word) > 1] == []


def test_each_guarantee_names_a_test_that_there_is():
    text = (ROOT / "docs/guarantees.md").read_text().partition("## Faults, counted")[0]
    rows = [row for row in text.splitlines() if row.startswith("| ") and "| shown by |" not in row]
    assert len(rows) > 30
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)`", row.split("|")[-2])
        assert named, f"no test: {row}"
        assert [name for name in named if not (ROOT / name).is_file()] == []
