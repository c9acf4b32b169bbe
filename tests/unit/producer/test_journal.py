"""The journal: nothing acknowledged comes back for ever, nothing unacknowledged disappears."""

import itertools
import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llmlog_common.settings import load
from llmlog_producer.journal import segment
from llmlog_producer.journal.journal import Journal, Recovered, folder_of
from llmlog_producer.journal.segment import Damage, Frame, Segment, frames

MAX = 1 << 20


def journal_in(folder, *, max_bytes=MAX, segment_bytes=400):
    return Journal(folder, max_bytes, segment_bytes=segment_bytes)


def append(journal, body, *, taken):
    """Write one event; None where it is not written."""
    refs = journal.append_all([body], taken=taken)
    return refs[0] if refs else None


def fill_disk(monkeypatch, takes):
    """Have writes of more than 20 bytes take some of them, and others none."""
    write = os.write

    def short_then_full(fd, data):
        if len(data) > 20:
            return write(fd, data[:takes])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", short_then_full)


def bodies(taken):
    return [body for _, body in taken]


def files(folder, suffix=".journal"):
    return sorted(path.name for path in folder.iterdir() if path.suffix == suffix)


def drained(journal):
    """Take everything that is unsent."""
    found = []
    while taken := journal.take(3, 10_000):
        found += taken
    return found


@pytest.fixture
def journal(tmp_path):
    return journal_in(tmp_path)


def test_what_is_appended_is_handed_out_once_in_order(journal):
    written = [b"event %d" % number * number for number in range(1, 30)]
    for body in written:
        assert append(journal, body, taken=False)
    assert journal.waiting == journal.unsent == len(written)
    assert bodies(drained(journal)) == written
    assert (journal.waiting, journal.unsent) == (len(written), 0)


def test_the_writer_may_send_by_itself(journal):
    ref = append(journal, b"mine", taken=True)
    assert not journal.take(10, 10_000)
    journal.give_back(ref)
    assert bodies(journal.take(10, 10_000)) == [b"mine"]


def test_a_segment_goes_when_all_of_it_is_settled(journal, tmp_path):
    refs = [append(journal, bytes(150), taken=True) for _ in range(6)]
    assert len(files(tmp_path)) == 2
    for ref in refs[:3]:
        journal.settle(ref)
    assert len(files(tmp_path)) == 1
    for ref in refs[3:]:
        journal.settle(ref)
    assert not files(tmp_path)


def test_the_file_being_written_is_emptied_when_all_of_it_is_settled(journal, tmp_path):
    first = append(journal, b"a", taken=True)
    journal.settle(first)
    (name,) = files(tmp_path)
    assert (tmp_path / name).stat().st_size == 0
    second = append(journal, b"b", taken=True)
    journal.settle(first)  # of a time that is over
    assert journal.waiting == 1
    journal.settle(second)
    assert journal.waiting == 0


def test_an_end_with_everything_settled_leaves_nothing(journal, tmp_path):
    journal.settle(append(journal, b"a", taken=True))
    journal.release()
    assert not list(tmp_path.iterdir())


def test_what_the_end_leaves_is_taken_over(journal, tmp_path):
    append(journal, b"unsent", taken=False)
    append(journal, b"in flight", taken=True)
    journal.settle(append(journal, b"settled", taken=True))
    journal.release()
    following = journal_in(tmp_path)
    # Which of a file's events were settled is not on disk: all of it is sent again.
    assert following.adopt() == Recovered(3, 0, 0)
    taken = drained(following)
    assert bodies(taken) == [b"unsent", b"in flight", b"settled"]
    for ref, _ in taken:
        following.settle(ref)
    following.release()
    assert not list(tmp_path.iterdir())


def test_a_living_process_keeps_its_own(journal, tmp_path):
    append(journal, b"a", taken=False)
    other = journal_in(tmp_path)
    assert other.adopt() == Recovered(0, 0, 0)
    assert other.waiting == 0


def test_only_one_takes_over(journal, tmp_path):
    append(journal, b"a", taken=False)
    journal.release()
    first, second = journal_in(tmp_path), journal_in(tmp_path)
    assert first.adopt().events == 1
    assert second.adopt().events == 0


def test_who_took_over_and_died_is_taken_over(journal, tmp_path):
    append(journal, b"a", taken=False)
    journal.release()
    second = journal_in(tmp_path)
    second.adopt()
    second.take(1, 100)
    second.abandon()
    assert journal_in(tmp_path).adopt().events == 1


def test_locks_of_the_dead_without_a_file_are_cleaned_up(tmp_path):
    (tmp_path / "0123456789abcdef.lock").touch()
    journal_in(tmp_path).adopt()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing_bytes", [1, 3, 12, 15])
def test_a_file_that_ends_within_an_event_is_counted_and_the_rest_is_sent(
    journal, tmp_path, missing_bytes
):
    append(journal, b"whole", taken=False)
    append(journal, b"unfinished", taken=False)
    journal.release()
    (name,) = files(tmp_path)
    os.truncate(tmp_path / name, (tmp_path / name).stat().st_size - missing_bytes)
    following = journal_in(tmp_path)
    assert following.adopt() == Recovered(1, 1, 0)
    ((ref, body),) = drained(following)
    assert body == b"whole"
    following.settle(ref)
    assert not files(tmp_path)
    assert not files(tmp_path, ".damaged")


@pytest.mark.parametrize("at", [0, 5, 9, 14])
def test_damage_is_counted_and_kept_aside_and_the_rest_is_sent(journal, tmp_path, at):
    for body in (b"first", b"second", b"third"):
        append(journal, body, taken=False)
    journal.release()
    (name,) = files(tmp_path)
    raw = bytearray((tmp_path / name).read_bytes())
    raw[17 + at] ^= 0xFF
    (tmp_path / name).write_bytes(raw)
    following = journal_in(tmp_path)
    assert following.adopt() == Recovered(2, 0, 1)
    taken = drained(following)
    assert bodies(taken) == [b"first", b"third"]
    for ref, _ in taken:
        following.settle(ref)
    assert not files(tmp_path)
    assert (tmp_path / files(tmp_path, ".damaged")[0]).read_bytes() == bytes(raw)


def test_a_file_that_is_no_journal_is_kept_aside(tmp_path):
    (tmp_path / "0123456789abcdef.000001.journal").write_bytes(b"not ours at all" * 10)
    assert journal_in(tmp_path).adopt() == Recovered(0, 0, 1)
    assert len(files(tmp_path, ".damaged")) == 1


def test_a_file_that_disappears_is_counted_as_lost(journal, tmp_path):
    append(journal, b"a", taken=False)
    (name,) = files(tmp_path)
    (tmp_path / name).unlink()
    assert not journal.take(1, 100)
    assert (journal.lost, journal.waiting) == (1, 0)


def test_what_is_written_after_its_file_was_deleted_is_not_lost(journal, tmp_path):
    append(journal, b"a", taken=False)
    (tmp_path / files(tmp_path)[0]).unlink()
    for body in (b"b", b"c"):
        append(journal, body, taken=False)
    assert bodies(drained(journal)) == [b"b", b"c"]
    assert journal.lost == 1
    assert "No such file" in journal.problem


@pytest.mark.parametrize("suffixes", [{".lock"}, {".lock", ".journal"}])
def test_a_journal_whose_lock_was_deleted_is_not_taken_over(journal, tmp_path, suffixes):
    append(journal, b"a", taken=True)
    for path in [path for path in tmp_path.iterdir() if path.suffix in suffixes]:
        path.unlink()
    append(journal, b"b", taken=False)
    other = journal_in(tmp_path)
    assert other.adopt().events == (".journal" not in suffixes), "what was written before, if any"
    assert b"b" not in bodies(drained(other))
    assert bodies(drained(journal)) == [b"b"]
    assert journal.lost == 0


def test_a_folder_that_was_deleted_is_made_again(tmp_path):
    journal = journal_in(tmp_path / "spool")
    append(journal, b"a", taken=True)
    shutil.rmtree(tmp_path / "spool")
    append(journal, b"b", taken=False)
    assert bodies(drained(journal)) == [b"b"]


def test_what_was_deleted_leaves_its_room_to_others(tmp_path):
    journal = journal_in(tmp_path, max_bytes=1000, segment_bytes=10_000)
    for _ in range(30):
        assert append(journal, bytes(100), taken=False)
        (tmp_path / files(tmp_path)[0]).unlink()
        assert not drained(journal)
    assert journal.lost == 30


def test_a_file_that_cannot_be_opened_now_is_read_later(journal, monkeypatch):
    given = [b"%02d" % number * 20 for number in range(40)]
    journal.append_all(given[:20], taken=False)
    journal.append_all(given[20:], taken=False)
    (first, *_) = journal.take(1, 100)

    def too_many(path, mode):
        raise OSError(24, "Too many open files", str(path))

    monkeypatch.setattr(Path, "open", too_many)
    assert not journal.take(3, 10_000)
    assert "Too many open files" in journal.problem
    monkeypatch.undo()
    assert bodies([first, *drained(journal)]) == given
    assert journal.lost == 0


def test_what_was_read_before_the_disk_went_away_is_handed_out(journal, monkeypatch):
    journal.append_all([b"a", b"b", b"c"], taken=False)
    checksum = segment.zlib.crc32

    def away(body):
        if body == b"b":
            raise OSError(5, "Input/output error")
        return checksum(body)

    monkeypatch.setattr(segment.zlib, "crc32", away)
    assert bodies(journal.take(3, 100)) == [b"a"]
    assert not journal.take(3, 100)
    monkeypatch.undo()
    assert bodies(drained(journal)) == [b"b", b"c"]


def test_a_write_does_not_wait_for_the_files_of_a_dead_process_to_be_read(
    journal, tmp_path, monkeypatch
):
    append(journal, b"old", taken=False)
    journal.release()
    following, found = journal_in(tmp_path), Segment.found

    def slow(path, owner):
        assert append(following, b"new", taken=False), "while the old is read"
        return found(path, owner)

    monkeypatch.setattr(Segment, "found", slow)
    thread = threading.Thread(target=following.adopt, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert sorted(bodies(drained(following))) == [b"new", b"old"]


def test_what_is_read_when_the_journal_is_closed_is_left_to_the_next(
    journal, tmp_path, monkeypatch
):
    append(journal, b"old", taken=False)
    journal.release()
    following, found = journal_in(tmp_path), Segment.found

    def closed_meanwhile(path, owner):
        following.release()
        return found(path, owner)

    monkeypatch.setattr(Segment, "found", closed_meanwhile)
    assert following.adopt() == Recovered(0, 0, 0)
    assert not drained(following)
    monkeypatch.undo()
    assert journal_in(tmp_path).adopt().events == 1


def test_past_the_bound_the_newest_is_refused_and_says_why(tmp_path):
    journal = journal_in(tmp_path, max_bytes=1000)
    refs = []
    while ref := append(journal, bytes(100), taken=True):
        refs.append(ref)
    assert len(refs) == 1000 // 112
    assert "1000 bytes (LLMLOG_JOURNAL_MAX_BYTES)" in journal.problem
    assert not journal.has_room(112)
    for ref in refs:
        journal.settle(ref)
    assert append(journal, bytes(100), taken=True)


def test_what_others_hold_counts_against_the_bound(tmp_path):
    other = journal_in(tmp_path, max_bytes=1000)
    append(other, bytes(600), taken=True)
    journal = journal_in(tmp_path, max_bytes=1000)
    journal.adopt()
    assert append(journal, bytes(600), taken=True) is None
    assert append(journal, bytes(200), taken=True)


def test_a_full_disk_leaves_the_file_as_it_was(journal, tmp_path, monkeypatch):
    append(journal, b"before", taken=False)
    fill_disk(monkeypatch, takes=7)
    assert append(journal, bytes(10), taken=False) is None
    assert journal.problem == "No space left on device"
    monkeypatch.undo()
    append(journal, b"after", taken=False)
    assert bodies(drained(journal)) == [b"before", b"after"]


def test_several_are_written_at_once(journal, monkeypatch):
    written, write = [], os.write
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(data) or write(fd, data))
    refs = journal.append_all([b"a", b"bb", b"ccc"], taken=False)
    assert len(written) == 1
    journal.settle(refs[1])
    assert bodies(drained(journal)) == [b"a", b"ccc"]


def test_of_several_the_first_are_written_where_there_is_no_room_for_all(tmp_path):
    journal = journal_in(tmp_path, max_bytes=1000)
    given = [bytes([number]) * 100 for number in range(20)]
    refs = journal.append_all(given, taken=False)
    assert len(refs) == 1000 // 112
    assert "1000 bytes" in journal.problem
    assert bodies(drained(journal)) == given[: len(refs)]


def test_of_several_none_is_left_by_a_full_disk(journal, monkeypatch):
    fill_disk(monkeypatch, takes=20)
    assert not journal.append_all([bytes(20), bytes(20)], taken=True)
    monkeypatch.undo()
    assert journal.waiting == 0
    append(journal, b"after", taken=False)
    assert bodies(drained(journal)) == [b"after"]


def test_a_disk_that_takes_nothing_back_costs_no_event(journal, monkeypatch):
    write, given = os.write, [b"%02d" % number * 10 for number in range(8)]

    def full_after_two(fd, data):
        if len(data) > 70:
            return write(fd, data[:70])
        if len(data) > 40:
            raise OSError(5, "Input/output error")
        return write(fd, data)

    def stuck(fd, size):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "write", full_after_two)
    monkeypatch.setattr(os, "ftruncate", stuck)
    assert len(journal.append_all(given, taken=False)) == len(given)
    monkeypatch.undo()
    assert bodies(drained(journal)) == given
    assert journal.unsent == 0


def test_no_other_user_may_read_the_journal(tmp_path):
    folder = tmp_path / "spool" / "topic"
    journal = journal_in(folder)
    append(journal, b"a prompt", taken=False)
    for path in (folder, *folder.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        journal_in(tmp_path / "file" / "folder")


def test_each_topic_has_a_folder(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    topic = {"LLMLOG_TOPIC": "t"}
    assert folder_of(load(environ=topic)) == Path("/state/llmlog-pipeline/journal/t")
    environ = {**topic, "LLMLOG_JOURNAL_DIR": "/spool"}
    assert folder_of(load(environ=environ)) == Path("/spool/t")


def test_a_length_of_gigabytes_is_not_believed(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"LLJ1\xff\xff\xff\xff\0\0\0\0abc")
    with path.open("rb") as file:
        assert list(frames(file)) == [Damage(torn=True)]


class Processes(RuleBasedStateMachine):
    """Several processes share a folder; they write, send, are answered, crash, take over."""

    def __init__(self):
        super().__init__()
        # Names decide the order in which files are taken over: hypothesis wants it repeatable.
        names = (f"{number:016x}" for number in itertools.count())
        self.names = mock.patch(
            "llmlog_producer.journal.journal.secrets.token_hex", side_effect=names
        )
        self.names.start()
        self.folder = Path(tempfile.mkdtemp())
        self.journals = [journal_in(self.folder, segment_bytes=120) for _ in range(2)]
        self.number = 0
        # What is written and not acknowledged; what was acknowledged may come again.
        self.open = set()
        self.acknowledged = set()
        self.in_flight = []

    @rule(which=st.integers(0, 1), size=st.integers(0, 150), taken=st.booleans())
    def write(self, which, size, taken):
        self.number += 1
        body = b"%08d" % self.number + b"LLJ1" * (size // 4)
        ref = append(self.journals[which], body, taken=taken)
        assert ref
        self.open.add(body)
        if taken:
            self.in_flight.append((self.journals[which], ref, body))

    @rule(which=st.integers(0, 1), number=st.integers(1, 5))
    def write_several(self, which, number):
        given = [b"%08d" % (self.number + more) + b"LLJ1" * more for more in range(1, number + 1)]
        self.number += number
        assert len(self.journals[which].append_all(given, taken=False)) == number
        self.open.update(given)

    @rule(which=st.integers(0, 1), number=st.integers(1, 4))
    def send(self, which, number):
        for ref, body in self.journals[which].take(number, 10_000):
            assert body in self.open | self.acknowledged
            self.in_flight.append((self.journals[which], ref, body))

    @rule(data=st.data())
    def acknowledge(self, data):
        if self.in_flight:
            at = data.draw(st.integers(0, len(self.in_flight) - 1))
            journal, ref, body = self.in_flight.pop(at)
            journal.settle(ref)
            self.open.discard(body)
            self.acknowledged.add(body)

    @rule(data=st.data())
    def refuse(self, data):
        if self.in_flight:
            at = data.draw(st.integers(0, len(self.in_flight) - 1))
            journal, ref, _ = self.in_flight.pop(at)
            journal.give_back(ref)

    @rule(which=st.integers(0, 1))
    def look_around(self, which):
        found = self.journals[which].adopt()
        assert found.damaged == 0

    @rule(which=st.integers(0, 1), data=st.data())
    def crash(self, which, data):
        journal = self.journals[which]
        active = journal._active
        journal.abandon()
        self.in_flight = [entry for entry in self.in_flight if entry[0] is not journal]
        if active is not None and active.size:
            self._tear(active, data.draw(st.integers(0, active.size)))
        self.journals[which] = journal_in(self.folder, segment_bytes=120)

    def _tear(self, segment: Segment, size: int):
        """Truncate the file that was being written: only events past its new end are lost."""
        with segment.path.open("rb") as file:
            whole = [item for item in frames(file) if isinstance(item, Frame)]
        os.truncate(segment.path, size)
        lost = {f.body for f in whole if f.offset + Segment.size_of(f.body) > size}
        self.open -= lost

    @rule(which=st.integers(0, 1))
    def end(self, which):
        self.in_flight = [entry for entry in self.in_flight if entry[0] is not self.journals[which]]
        self.journals[which].release()
        self.journals[which] = journal_in(self.folder, segment_bytes=120)

    @invariant()
    def counts_agree(self):
        for journal in self.journals:
            assert 0 <= journal.unsent <= journal.waiting

    def teardown(self):
        for journal in self.journals:
            journal.release()
        last = journal_in(self.folder)
        self.names.stop()
        last.adopt()
        taken = drained(last)
        left = {body for _, body in taken}
        assert self.open <= left, "an event that was not acknowledged has disappeared"
        assert left <= self.open | self.acknowledged
        for ref, _ in taken:
            last.settle(ref)
        last.release()
        assert not list(self.folder.iterdir()), "an acknowledged event is kept for ever"
        shutil.rmtree(self.folder)


TestProcesses = Processes.TestCase
TestProcesses.settings = settings(max_examples=60, stateful_step_count=30)
