"""Which letters are recovered: their event has a document after all."""

from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.dead_letters.letter import read_letter
from llmlog_consumer.dead_letters.recovered import find_recovered
from support.fakes.letters import POISON, REFUSED, FakeLookup, new_letter
from support.payloads import encoded, event

TRANSFORM = Cause(Stage.TRANSFORM, Ending.POISON, "TransformError: document is no valid JSON")


def letter(seed, cause=REFUSED, **options):
    return read_letter(new_letter(cause, value=encoded(seed), **options))


def event_id(seed):
    return event(seed)["event_id"]


def test_a_letter_of_any_stage_is_recovered_when_its_event_has_a_document():
    lookup = FakeLookup({event_id(1)})
    letters = [letter(seed, cause) for seed in (1, 2) for cause in (POISON, TRANSFORM, REFUSED)]
    recovered = find_recovered(lookup, letters)
    assert [recovered.tell(one.event_id) for one in letters] == [True] * 3 + [False] * 3
    assert lookup.requests == [[event_id(1), event_id(2)]], "each event is asked for once"


def test_the_key_and_the_named_document_of_a_letter_do_not_say_which_event_it_is():
    """Anybody sets the key; the headers name the document that was tried."""
    lookup = FakeLookup({event_id(2), REFUSED.document_id})
    one = letter(1, key=event_id(2).encode())
    assert find_recovered(lookup, [one]).tell(one.event_id) is False


def test_a_letter_that_holds_no_event_is_not_asked_for_and_not_recovered():
    lookup = FakeLookup({event_id(1)})
    whole = encoded(1)
    letters = [read_letter(new_letter(value=value)) for value in (b"garbage", None, whole[:-400])]
    recovered = find_recovered(lookup, letters)
    assert [recovered.tell(one.event_id) for one in letters] == [False] * 3
    assert lookup.requests == [[]]


def test_of_an_event_that_cannot_be_looked_up_it_is_not_known():
    lookup = FakeLookup({event_id(1)}, {event_id(2)})
    letters = [letter(1), letter(2), letter(3)]
    recovered = find_recovered(lookup, letters)
    assert [recovered.tell(one.event_id) for one in letters] == [True, None, False]
