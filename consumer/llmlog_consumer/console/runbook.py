"""Owns which part of the documentation is about what a page shows. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

CHECKS: Final[dict[str, str]] = {
    "kafka.certificate": "operations.md#llmlogcertificateends",
    "elasticsearch.certificate": "operations.md#llmlogcertificateends",
    "topic.rights": "permissions.md#kafka",
    "group.rights": "permissions.md#kafka",
    "elasticsearch.rights": "permissions.md#elasticsearch",
    "elasticsearch.nodes": "configuration.md#several-nodes",
    "group.": "operations.md#llmloglagging",
    "dead_letters.": "dead-letters.md#replaying",
    "index.blocks": "operations.md#llmlogpausedscope",
    "index.pipelines": "dead-letters.md#ingest-pipelines",
    "index.": "cli.md#pipeline-setup",
    "elasticsearch.": "configuration.md#elasticsearch",
    "registry.": "configuration.md#schema-registry",
    "": "configuration.md#kafka",
}
"""By the beginning of a check's name; the first row that fits counts."""

VERDICTS: Final[dict[str, str]] = {
    "behind": "operations.md#llmloglagging",
    "stopped": "operations.md#llmlogconsumerdown",
    "stuck": "operations.md#llmlognothingsettled",
    "unhealthy": "operations.md#llmlogunhealthyworker",
}
"""By the health that `pipeline status` tells; there is nothing to do about the others."""

STAGES: Final[dict[str, str]] = {
    stage: f"dead-letters.md#{stage}"
    for stage in ("decode", "transform", "expired", "oversize", "index")
}
"""By the stage at which a record failed."""


def of_check(name: str) -> str:
    """Return the part that is about a check of `pipeline doctor`."""
    return next(part for begin, part in CHECKS.items() if name.startswith(begin))


class Advice(NamedTuple):
    """What to do about letters of one cause.

    Attributes:
        stage: at which the record failed.
        says: a part of the error's type or text; empty for any.
        text: what to do, in short; the documentation has it at length.
    """

    stage: str
    says: str
    text: str


_REPLAY_AFTER_SETUP: Final = (
    "The index of its day has another mapping: run pipeline setup, reindex or delete that day's "
    "index, then replay. Or mend the field here."
)
ADVICE: Final = (
    Advice("decode", "has no value", "A client wrote a tombstone: find it; nothing to replay."),
    Advice(
        "decode",
        "no Avro framing",
        "Something other than the gateway writes to the topic: find it by key and headers, and "
        "take away its right to write. Nothing to replay.",
    ),
    Advice(
        "decode",
        "is of no version that this release knows",
        "The gateway is newer than the consumer: upgrade the consumer, then replay.",
    ),
    Advice(
        "decode",
        "knows no schema",
        "Register the schema in the registry, or find the writer, then replay.",
    ),
    Advice("decode", "", "The bytes are no event: find the writer; nothing to replay."),
    Advice(
        "transform",
        "start time",
        "A clock is wrong: set it. An event of the future can be replayed once its time has come; "
        "one outside 2020 to 2100 never.",
    ),
    Advice("transform", "event_id", "Another program wrote it: find the writer."),
    Advice("transform", "", "The event's JSON is broken: try a newer consumer, then replay."),
    Advice(
        "expired",
        "",
        "Older than LLMLOG_MAX_EVENT_AGE: nothing to do; or raise the setting, run pipeline setup, "
        "and replay. If events of today expire, a clock is wrong.",
    ),
    Advice(
        "oversize",
        "",
        "One document is larger than Elasticsearch or a proxy takes: raise the limit, then replay. "
        "Or drop its largest field here.",
    ),
    Advice("index", "document_parsing_exception", _REPLAY_AFTER_SETUP),
    Advice("index", "mapper_parsing_exception", _REPLAY_AFTER_SETUP),
    Advice("index", "strict_dynamic_mapping_exception", _REPLAY_AFTER_SETUP),
    Advice("index", "immense term", _REPLAY_AFTER_SETUP),
    Advice("index", "Limit of total fields", _REPLAY_AFTER_SETUP),
    Advice("index", "illegal_argument_exception", _REPLAY_AFTER_SETUP),
    Advice(
        "index",
        "invalid_index_name_exception",
        "Elasticsearch does not take this name: check LLMLOG_INDEX, then replay.",
    ),
    Advice(
        "index",
        "pipeline of the index dropped",
        "An ingest pipeline drops it: take the processor out, then replay; or declare the drop "
        "with LLMLOG_INGEST_DROP=drop.",
    ),
    Advice(
        "index",
        "another _id",
        "An ingest pipeline changes the id: take that out, delete the document, then replay.",
    ),
    Advice(
        "index",
        "not Elasticsearch's own",
        "A firewall or a proxy refuses this document and no other: let it pass there, then replay.",
    ),
    Advice(
        "index",
        "",
        "Read Elasticsearch's words and its log, mend that, then replay; or mend the field here.",
    ),
)
"""The runbook's advice, cause by cause; the first row that fits counts."""


def advise(stage: str, *texts: str | None) -> str:
    """Return what to do about a letter; empty where its stage is not known.

    Args:
        stage: at which the record failed.
        texts: type, reason and exception, as far as there are any.
    """
    said = " ".join(filter(None, texts))
    rows = (row.text for row in ADVICE if row.stage == stage and row.says in said)
    return next(rows, "")
