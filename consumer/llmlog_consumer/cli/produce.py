"""`pipeline produce`."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from confluent_kafka import KafkaException, Producer
from rich.console import Console
from rich.progress import wrap_file

from llmlog_common.errors import ConfigurationError, KafkaError
from llmlog_common.kafka_clients import MAX_RECORD_BYTES, new_client, producer_config
from llmlog_common.settings import Settings, load
from llmlog_consumer.cli.options import ConfigOption, complain
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_schemas.codec import Encoder
from llmlog_schemas.convert import PayloadError, fit, to_event
from llmlog_schemas.registry import Registry

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_FLUSH_SECONDS = 60.0


def produce(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE|-", help="NDJSON of LiteLLM logging payloads; - for stdin."),
    ],
    config: ConfigOption = None,
) -> None:
    """Send logging payloads from a file through the callback's own encoder.

    Bad lines are named by number and the rest is sent; the exit code is 2 if there were any.
    Sent again, a payload with a litellm_call_id is the same event and makes no second document.

    Example: pipeline produce payloads.ndjson
    """
    settings = load(config=config)
    KafkaAdmin(settings).require(settings.topic)
    sender = _Sender(settings)
    bad = 0
    with _opened(file) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                sender.send(_payload(line))
            except PayloadError as error:
                bad += 1
                complain(f"line {number}: {error}")
    sender.finish()
    complain(f"sent {sender.delivered} events to {settings.topic}")
    if bad:
        raise ConfigurationError(f"{bad} bad lines were left out; all others were sent")


class _Sender:
    """Encodes and produces; counts what the brokers confirmed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = new_client(Producer, producer_config(settings))
        registry = Registry.from_settings(settings)
        self._encoder = Encoder(registry.register(settings.topic) if registry else None)
        self.delivered = 0
        self._refusal = ""

    def send(self, payload: Any) -> None:
        event = to_event(
            payload,
            search_text=self._settings.search_text,
            model_map_information=self._settings.model_map_information,
        )
        value = self._encoder.encode(event)
        if len(value) > MAX_RECORD_BYTES:
            value = self._encoder.encode(fit(event, MAX_RECORD_BYTES // 2))
        while True:
            try:
                self._producer.produce(
                    self._settings.topic, value, event["event_id"], on_delivery=self._reported
                )
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                raise KafkaError(f"{self._settings.topic}: {error.args[0].str()}") from None
            else:
                break
        self._producer.poll(0)

    def finish(self) -> None:
        unsent = self._producer.flush(_FLUSH_SECONDS)
        if unsent or self._refusal:
            why = self._refusal or "no answer in time"
            raise KafkaError(f"{self.delivered} events sent, the others not ({why}): run it again")

    def _reported(self, error: Any, _message: Any) -> None:
        if error is None:
            self.delivered += 1
        else:
            self._refusal = error.str()


def _opened(file: str) -> AbstractContextManager[BinaryIO]:
    if file == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        opened = Path(file).open("rb")  # noqa: SIM115 - closed by the caller's `with`
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from None
    console = Console(stderr=True)
    if not console.is_terminal:
        return opened
    size = Path(file).stat().st_size
    return wrap_file(opened, size, description="sending", console=console)


def _payload(line: bytes) -> Any:
    """Parse Python's JSON dialect: NaN, Infinity, lone surrogates."""
    try:
        payload = json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"no JSON: {error}") from None
    if not isinstance(payload, dict):
        raise PayloadError(f"a JSON {type(payload).__name__}, not an object")
    return payload
