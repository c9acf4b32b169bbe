"""Events on disk: every record comes back with its event, a 64th of the events at a time."""

from __future__ import annotations

import base64

from llmlog_consumer.checks.event_files import GROUPS, EventFiles


def event_id(last_byte: int) -> str:
    return base64.urlsafe_b64encode(bytes(14) + bytes([last_byte])).decode()


def add(files, name, partition, offset, document=b"{}", *, has_letter=False):
    files.add(name, partition, offset, document, has_letter=has_letter)


def read(files):
    return {name: event for group in files.read() for name, event in group.items()}


def test_all_records_of_an_event_come_back_together():
    with EventFiles() as files:
        add(files, event_id(1), 0, 2**40, has_letter=True)
        add(files, event_id(2), 7, 5)
        add(files, event_id(1), 3, 4)
        events = read(files)
    assert events.keys() == {event_id(1), event_id(2)}
    first, second = events[event_id(1)], events[event_id(2)]
    assert (first.places, first.has_letter) == ([(0, 2**40), (3, 4)], True)
    assert (second.places, second.has_letter) == ([(7, 5)], False)


def test_the_letter_of_an_event_is_found_by_its_id_before_or_after_its_record():
    with EventFiles() as files:
        files.add_letter(event_id(1))
        add(files, event_id(1), 0, 1)
        add(files, event_id(2), 0, 2)
        files.add_letter(event_id(2))
        add(files, event_id(3), 0, 3)
        files.add_letter(event_id(4))
        events = read(files)
    assert {name: event.has_letter for name, event in events.items()} == {
        event_id(1): True,
        event_id(2): True,
        event_id(3): False,
    }


def test_records_of_one_event_with_different_documents_are_in_conflict():
    with EventFiles() as files:
        for offset, document in enumerate((b"{}", b"{}", b"")):
            add(files, event_id(1), 0, offset)
            add(files, event_id(2), 1, offset, document)
        events = read(files)
    assert not events[event_id(1)].is_conflict
    assert events[event_id(2)].is_conflict


def test_each_event_comes_back_with_the_place_of_its_first_record():
    with EventFiles() as files:
        for number, place in enumerate(("", "-pay", "month", "-pay", "-other")):
            files.add(event_id(number), 0, number, b"{}", has_letter=False, place=place)
        files.add(event_id(1), 0, 9, b"{}", has_letter=False, place="-other")
        events = read(files)
    places = [events[event_id(number)].place for number in range(5)]
    assert places == ["", "-pay", "month", "-pay", "-other"]


def test_events_of_one_moment_are_spread_over_all_groups():
    """Ids begin with the time and end with chance; one large group would not fit into memory."""
    with EventFiles() as files:
        for last_byte in range(256):
            add(files, event_id(last_byte), 0, last_byte)
        assert [len(group) for group in files.read()] == [256 // GROUPS] * GROUPS


def test_the_folder_says_what_made_it_and_is_deleted_at_the_end(tmp_path):
    with EventFiles(tmp_path) as files:
        add(files, event_id(1), 0, 0)
        (folder,) = tmp_path.iterdir()
        assert folder.name.startswith("llmlog-verify-")
    assert list(tmp_path.iterdir()) == []
