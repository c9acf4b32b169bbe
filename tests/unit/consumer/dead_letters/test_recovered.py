"""Which letters are recovered: have a document after all."""

from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.recovered import (
    MAX_REQUEST_DOCUMENTS,
    find_existing,
    find_recovered,
)
from support.fakes.letters import POISON, REFUSED, FakeElastic, new_letter


def letters(count, cause=REFUSED):
    return [read_letter(new_letter(cause, source=("t", 0, n), offset=n)) for n in range(count)]


def test_letters_whose_document_exists_are_recovered():
    elastic = FakeElastic({REFUSED.document_id})
    assert find_recovered(elastic, letters(2)) == {"t/0/0", "t/0/1"}
    assert find_recovered(FakeElastic(set()), letters(2)) == set()


def test_a_letter_that_names_no_document_is_not_asked_for():
    elastic = FakeElastic({REFUSED.document_id})
    assert find_recovered(elastic, letters(2, POISON)) == set()
    assert find_existing(elastic, []) == set()
    assert elastic.requests == []


def test_a_request_asks_for_a_bounded_number_of_documents():
    elastic = FakeElastic(set())
    find_recovered(elastic, letters(MAX_REQUEST_DOCUMENTS + 1))
    assert [len(ids) for ids in elastic.requests] == [MAX_REQUEST_DOCUMENTS, 1]
