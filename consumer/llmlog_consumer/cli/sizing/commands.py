"""Owns the command `pipeline size`; the model is `llmlog_consumer.sizing`."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from llmlog_common.units import parse_bytes
from llmlog_consumer import sizing
from llmlog_consumer.cli.options import JsonOption
from llmlog_consumer.cli.output import say, write_json, write_table

if TYPE_CHECKING:
    from llmlog_consumer.sizing import Load, Plan


class Profile(StrEnum):
    """What the calls are; each has figures of its own."""

    PROMPTS = "prompts"
    SESSIONS = "sessions"
    AGENTS = "agents"


def _parse_size(text: str) -> int:
    try:
        found = parse_bytes(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not isinstance(found, int) or found <= 0:
        raise typer.BadParameter(f"{text!r} is no size: 4 KB, 2 MiB, or a number of bytes")
    return found


def size(
    calls: Annotated[
        float, typer.Option("--calls-per-day", min=1, metavar="N", help="All gateways together.")
    ],
    event_bytes: Annotated[
        int,
        typer.Option(
            "--bytes", metavar="SIZE", parser=_parse_size, help="Of a call's event, uncompressed."
        ),
    ],
    profile: Annotated[
        Profile, typer.Option("--profile", help="What the calls are.")
    ] = Profile.PROMPTS,
    peak: Annotated[
        float, typer.Option("--peak", min=1, metavar="X", help="Busiest minute over the mean.")
    ] = sizing.PEAK_FACTOR,
    index_days: Annotated[
        float, typer.Option("--index-days", min=0, metavar="N", help="Documents are kept for.")
    ] = 30.0,
    index_replicas: Annotated[
        int, typer.Option("--index-replicas", min=0, metavar="N", help="Further copies.")
    ] = 1,
    topic_days: Annotated[
        float, typer.Option("--topic-days", min=0, metavar="N", help="Records are kept for.")
    ] = 7.0,
    topic_replicas: Annotated[
        int, typer.Option("--topic-replicas", min=1, metavar="N", help="Copies of a record.")
    ] = 3,
    as_json: JsonOption = False,
) -> None:
    """Compute cores, memory, partitions, shards, disk and network for a load. It asks no server.

    The figures behind it were measured on one kind of machine; docs/sizing.md has them.

    Example: pipeline size --calls-per-day 1000000 --bytes "4 KB"
    """
    load = sizing.Load(
        calls_per_day=calls, event_bytes=event_bytes, profile=profile.value, peak=peak,
        index_days=index_days, index_replicas=index_replicas, topic_days=topic_days,
        topic_replicas=topic_replicas,
    )  # fmt: skip
    plan = sizing.size(load)
    if as_json:
        write_json({"load": asdict(load), "plan": asdict(plan)})
        return
    write_table(("what", "needed", "because"), _rows(load, plan))
    say("The cores are of the machine that was measured: try a part of your load, and compare.")


def _rows(load: Load, plan: Plan) -> list[tuple[str, str, str]]:
    """Return the lines of the table."""
    share = f"{sizing.MAX_CPU_SHARE:.0%} of its cores at most"
    return [
        (
            "calls",
            f"{plan.peak_calls_per_second:,.1f} a second",
            f"at the peak; {plan.calls_per_second:,.1f} in the mean of a day",
        ),
        ("events", f"{_short(plan.peak_event_mib_per_second)} MiB/s", "at the peak, uncompressed"),
        (
            "gateways: CPU",
            f"{_short(plan.gateway_cores)} cores",
            "all together, beside what LiteLLM takes",
        ),
        (
            "consumer: workers",
            f"{plan.workers:,}",
            f"{_short(plan.worker_cores)} cores at the peak; {share}",
        ),
        ("consumer: CPU", f"{_short(plan.worker_cores_per_mib)} cores", "for each MiB/s of events"),
        (
            "consumer: memory",
            _size(plan.consumer_memory_bytes),
            "all workers in one `pipeline consume`",
        ),
        ("Kafka: partitions", f"{plan.partitions:,}", "twice the workers, in twelves"),
        (
            "Kafka: disk",
            _size(plan.topic_bytes),
            f"{load.topic_days:g} days, {load.topic_replicas} copies",
        ),
        (
            "Kafka: network",
            f"{_size(plan.kafka_in)}/s in, {_size(plan.kafka_out)}/s out",
            "at the peak, to brokers and consumers",
        ),
        (
            "Elasticsearch: CPU",
            f"{_short(plan.elasticsearch_cores)} cores",
            f"to index; searches come on top; {share}",
        ),
        (
            "Elasticsearch: disk",
            _size(plan.index_bytes),
            f"{load.index_days:g} days, {1 + load.index_replicas} copies, a quarter free",
        ),
        ("Elasticsearch: disk", _size(plan.index_bytes_per_million), "a million calls, one copy"),
        ("Elasticsearch: shards", f"{plan.shards:,} a day", "primaries, of 40 GiB at most"),
        ("Elasticsearch: network", f"{_size(plan.elasticsearch_in)}/s", "at the peak"),
    ]


def _size(count: float) -> str:
    """Return a number of bytes in the unit that reads best."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:  # noqa: PLR2004 - that is the next unit
            return f"{_short(count)} {unit}"
        count /= 1024
    return f"{_short(count)} TiB"


def _short(number: float) -> str:
    """Return a number with three digits that count."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"  # noqa: PLR2004 - three digits
