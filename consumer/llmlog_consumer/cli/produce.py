"""The command `pipeline produce`."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.progress import wrap_file

from llmlog_common.errors import ConfigurationError
from llmlog_common.kafka_clients import MAX_RECORD_BYTES
from llmlog_common.settings import Settings
from llmlog_consumer.cli.options import ConfigOption, JsonOption, load_settings
from llmlog_consumer.cli.output import complain, write_json
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.producer import KafkaProducer
from llmlog_schemas.codec import Encoder
from llmlog_schemas.convert import PayloadError, to_event
from llmlog_schemas.registry import Registry
from llmlog_schemas.truncate import truncate_event

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
    """Send logging payloads from a file through the callback's own encoder.

    Bad lines are named by number and the rest is sent; the exit code is 2 if there were any.
    Sent again, a payload with a litellm_call_id is the same event and makes no second document.

    Example: pipeline produce payloads.ndjson
    """
    settings = load_settings(config)
    KafkaAdmin(settings).require(settings.topic)
    sender = _EventSender(settings)
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


class _EventSender:
    """Encodes payloads as events, and sends them.

    Attributes:
        producer: knows what the brokers have confirmed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.producer: KafkaProducer[None] = KafkaProducer(settings)
        registry = Registry.from_settings(settings)
        self._encoder = Encoder(registry.register(settings.topic) if registry else None)

    def send(self, payload: Any) -> None:
        """Send one event, shortened where it is larger than the topic accepts.

        Raises:
            PayloadError: no event can be made of the payload.
            KafkaError: the client refuses the event.
        """
        event = to_event(
            payload,
            search_text=self._settings.search_text,
            model_map_information=self._settings.model_map_information,
        )
        value = self._encoder.encode(event)
        if len(value) > MAX_RECORD_BYTES:
            value = self._encoder.encode(truncate_event(event, MAX_RECORD_BYTES // 2))
        self.producer.send(None, self._settings.topic, value, event["event_id"])


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


def _parse_payload(line: bytes) -> Any:
    """Parse Python's JSON dialect: NaN, Infinity, lone surrogates."""
    try:
        payload = json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"no JSON: {error}") from None
    if not isinstance(payload, dict):
        raise PayloadError(f"a JSON {type(payload).__name__}, not an object")
    return payload
