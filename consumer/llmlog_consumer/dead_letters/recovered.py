"""Owns the answer which dead letters are recovered: those whose event has a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from llmlog_consumer.dead_letters.letter import DeadLetter
    from llmlog_consumer.elasticsearch.lookup import DocumentLookup


class Recovered(NamedTuple):
    """Which letters of some are recovered.

    Attributes:
        ids: of the events that have a document.
        unknown: of the events that could not be looked up.
    """

    ids: Container[str]
    unknown: Container[str]

    def tell(self, event_id: str) -> bool | None:
        """Tell whether an event has a document; None where that is not known.

        Args:
            event_id: empty where a letter holds no event: it has no document.
        """
        if event_id in self.ids:
            return True
        return None if event_id in self.unknown else False


def find_recovered(lookup: DocumentLookup, letters: Iterable[DeadLetter]) -> Recovered:
    """Look up which letters are recovered: every command asks this.

    Raises:
        ElasticsearchError: the server refuses.
        ElasticsearchUnreachable: the server does not answer.
    """
    ids = list(dict.fromkeys(letter.event_id for letter in letters if letter.event_id))
    found = lookup.find(ids)
    return Recovered(frozenset(found.indices), frozenset(found.unknown))
