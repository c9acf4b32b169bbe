"""The command `pipeline produce`."""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.progress import wrap_file

from llmlog_common.errors import ConfigurationError, KafkaError
from llmlog_common.settings import Settings
from llmlog_consumer.cli.options import ConfigOption, JsonOption, load_settings
from llmlog_consumer.cli.output import complain, write_json
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.producer import KafkaProducer
from llmlog_producer.counters import Stats
from llmlog_producer.events.build import CapturedPayload, EventBuilder
from llmlog_producer.events.completion import BatchCosts
from llmlog_producer.events.snapshot import excluded_keys, snapshot
from llmlog_schemas.codec import Encoder
from llmlog_schemas.convert import PayloadError
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def produce(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE|-", help="NDJSON of LiteLLM logging payloads; - for stdin."),
    ],
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Send logging payloads from a file as the callback would: redacted, truncated, encoded.

    Bad lines are named by number and the rest is sent; the exit code is 2 if there were any.
    Sent again, a payload with a litellm_call_id is the same event and makes no second document.

    Example: pipeline produce payloads.ndjson
    """
    settings = load_settings(config)
    admin = KafkaAdmin(settings)
    admin.require(settings.topic)
    sender = EventSender(settings, _topic_bytes(admin, settings.topic))
    bad = 0
    with _open_with_progress(file) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                sender.send(_parse_payload(line))
            except PayloadError as error:
                bad += 1
                complain(f"line {number}: {error}")
    sender.producer.finish("events")
    delivered = sender.producer.delivered
    if as_json:
        write_json({"topic": settings.topic, "sent": delivered, "bad_lines": bad})
    else:
        complain(f"sent {delivered} events to {settings.topic}")
    if bad:
        raise ConfigurationError(f"{bad} bad lines were left out; all others were sent")


class EventSender:
    """Makes events of payloads by the gateway's own code, and sends them.

    Args:
        settings: as loaded; those of redaction and size count here too.
        topic_bytes: the topic's bound; None where it may not be read.
        producer: by default a new one.

    Attributes:
        producer: knows what the brokers have confirmed.
    """

    def __init__(
        self,
        settings: Settings,
        topic_bytes: int | None = None,
        producer: KafkaProducer[None] | None = None,
    ) -> None:
        self._topic = settings.topic
        self._builder = EventBuilder(settings, Stats())
        if topic_bytes is not None:
            self._builder.lower_limit(topic_bytes)
        self._excluded = excluded_keys(settings)
        self._batch_costs = BatchCosts()
        self.producer: KafkaProducer[None] = producer or KafkaProducer(settings)
        registry = Registry.from_settings(settings)
        self._encoder = Encoder(registry.register(settings.topic) if registry else None)

    def send(self, payload: dict[str, Any]) -> None:
        """Send one event.

        Raises:
            PayloadError: no event can be made of the payload.
            KafkaError: the client refuses the event.
        """
        copy, size = snapshot(self._batch_costs.count_once(payload), without=self._excluded)
        event = self._builder.build(CapturedPayload(copy, "", time.time(), size))
        self.producer.send(None, self._topic, self._encoder.reframe(event.value), event.key)


def _topic_bytes(admin: KafkaAdmin, topic: str) -> int | None:
    """Return the bytes of the largest record that the topic takes; None where it is not told."""
    try:
        return int(admin.config(topic)["max.message.bytes"])
    except (KafkaError, KeyError, ValueError):
        return None


def _open_with_progress(file: str) -> AbstractContextManager[BinaryIO]:
    if file == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 - closed by the caller's `with`
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from None
    console = Console(stderr=True)
    if not console.is_terminal:
        return stream
    size = Path(file).stat().st_size
    return wrap_file(stream, size, description="sending", console=console)


def _parse_payload(line: bytes) -> dict[str, Any]:
    """Parse Python's JSON dialect: NaN, Infinity, lone surrogates."""
    try:
        payload = json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"no JSON: {error}") from None
    if not isinstance(payload, dict):
        raise PayloadError(f"a JSON {type(payload).__name__}, not an object")
    return payload
