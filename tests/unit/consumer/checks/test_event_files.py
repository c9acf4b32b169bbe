"""Events on disk: every record comes back with its event, a 64th of the events at a time."""

from __future__ import annotations

import base64

from llmlog_consumer.checks.event_files import GROUPS, EventFiles, SeenEvent


def event_id(last_byte: int) -> str:
    return base64.urlsafe_b64encode(bytes(14) + bytes([last_byte])).decode()


def test_all_records_of_an_event_come_back_together():
    with EventFiles() as files:
        files.add(event_id(1), 0, 2**40, has_letter=True)
        files.add(event_id(2), 7, 5, has_letter=False)
        files.add(event_id(1), 3, 4, has_letter=False)
        groups = [group for group in files.read() if group]
    assert groups == [
        {event_id(1): SeenEvent([(0, 2**40), (3, 4)], has_letter=True)},
        {event_id(2): SeenEvent([(7, 5)], has_letter=False)},
    ]


def test_events_of_one_moment_are_spread_over_all_groups():
    """Ids begin with the time and end with chance; one large group would not fit into memory."""
    with EventFiles() as files:
        for last_byte in range(256):
            files.add(event_id(last_byte), 0, last_byte, has_letter=False)
        assert [len(group) for group in files.read()] == [256 // GROUPS] * GROUPS


def test_the_folder_says_what_made_it_and_is_deleted_at_the_end(tmp_path):
    with EventFiles(tmp_path) as files:
        files.add(event_id(1), 0, 0, has_letter=False)
        (folder,) = tmp_path.iterdir()
        assert folder.name.startswith("llmlog-verify-")
    assert list(tmp_path.iterdir()) == []
