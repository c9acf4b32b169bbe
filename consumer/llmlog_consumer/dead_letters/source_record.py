"""Re-reads the source record of a letter that was truncated, while its topic still has it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from llmlog_common.errors import PipelineError
from llmlog_consumer.dead_letters import headers as of_letters
from llmlog_consumer.dead_letters.message import read_headers
from llmlog_consumer.kafka import reader as topic_reader
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.offsets import KafkaOffsets

if TYPE_CHECKING:
    from llmlog_common.settings import Settings
    from llmlog_consumer.dead_letters.letter import DeadLetter


class GoneError(Exception):
    """The original cannot be had; the text says why."""


def whole(settings: Settings, letter: DeadLetter) -> DeadLetter:
    """Return a truncated letter with its source's whole value.

    Raises:
        GoneError: the source has it no more, or has something else in its place.
        KafkaUnreachable: no broker answers.
    """
    topic, partition, offset = letter.source
    where = f"{topic}/{partition}/{offset}"
    try:
        admin = KafkaAdmin(settings)
        if topic == letter.topic or not 0 <= partition < admin.require(topic).partitions:
            raise GoneError(f"{where} is no place on a source topic")
        start, end = KafkaOffsets(admin).watermarks(topic, [partition])[partition]
        if not start <= offset < end:
            raise GoneError(f"{where} is not retained: the log holds offsets from {start}")
        record = topic_reader.read_one(settings, topic, partition, offset)
    except PipelineError as error:
        raise GoneError(f"{where}: {error}") from None
    value = None if record is None else record.value()
    if (
        record is None
        or value is None
        or hashlib.sha256(value).hexdigest() != letter.headers.get("truncated.sha256")
    ):
        raise GoneError(f"{where} holds another record now: its sha256 is not the letter's")
    # Key and headers may have been cut as well.
    own = of_letters.read(read_headers(record)).own
    return replace(letter, key=record.key(), value=value, own=own, headers=_uncut(letter))


def _uncut(letter: DeadLetter) -> dict[str, str]:
    return {k: v for k, v in letter.headers.items() if not k.startswith("truncated.")}
