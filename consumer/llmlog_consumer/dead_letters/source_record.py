"""Owns the re-reading of a truncated letter's original from its source topic."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from llmlog_common.errors import PipelineError
from llmlog_consumer.dead_letters.headers import read_headers, split_headers
from llmlog_consumer.kafka import reader as topic_reader
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.offsets import KafkaOffsets

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlog_common.settings import Settings
    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.kafka_record import KafkaRecord

    ReadOne = Callable[[Settings, str, int, int], KafkaRecord | None]


class OriginalMissingError(Exception):
    """The original of a truncated letter cannot be read; the text says why."""


class Restore(Protocol):
    """What turns a truncated letter into a whole one: `restore_original`, or a fake of it."""

    def __call__(self, settings: Settings, letter: DeadLetter) -> DeadLetter:
        """Return the letter with its original."""
        ...


def restore_original(
    settings: Settings,
    letter: DeadLetter,
    *,
    new_admin: Callable[[Settings], KafkaAdmin] = KafkaAdmin,
    new_offsets: Callable[[KafkaAdmin], KafkaOffsets] = KafkaOffsets,
    read_one: ReadOne = topic_reader.read_one,
) -> DeadLetter:
    """Return a truncated letter with key, value and headers of its source record.

    Args:
        settings: how to reach Kafka.
        letter: a truncated one.
        new_admin: makes what knows the partitions of the source topic.
        new_offsets: makes what knows the offsets of the source topic.
        read_one: reads the record at a topic, partition and offset.

    Raises:
        OriginalMissingError: the source topic no longer has the record, or has another one there.
        KafkaUnreachable: no broker answers.
    """
    topic, partition, offset = letter.source
    where = f"{topic}/{partition}/{offset}"
    try:
        admin = new_admin(settings)
        if topic == letter.topic or not 0 <= partition < admin.require(topic).partitions:
            raise OriginalMissingError(f"{where} is not on a source topic")
        start, end = new_offsets(admin).watermarks(topic, [partition])[partition]
        if not start <= offset < end:
            raise OriginalMissingError(
                f"{where} is not retained: the partition's offsets begin at {start}"
            )
        record = read_one(settings, topic, partition, offset)
    except PipelineError as error:
        raise OriginalMissingError(f"{where}: {error}") from None
    value = None if record is None else record.value()
    sha256 = letter.headers.get("truncated.sha256")
    if record is None or value is None or hashlib.sha256(value).hexdigest() != sha256:
        raise OriginalMissingError(
            f"{where} is another record now: its sha256 is not that of the letter's original"
        )
    # Key and headers may have been truncated as well.
    return replace(
        letter,
        key=record.key(),
        value=value,
        source_headers=split_headers(read_headers(record)).source_headers,
        headers={k: v for k, v in letter.headers.items() if not k.startswith("truncated.")},
    )
