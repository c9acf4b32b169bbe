"""The journal: nothing acknowledged comes back for ever, nothing unacknowledged disappears."""

import errno
import fcntl
import itertools
import os
import shutil
import stat
import struct
import tempfile
import time
import zlib
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from llmlog_common.settings import load
from llmlog_producer.journal.journal import Journal, folder_of
from llmlog_producer.journal.segment import Segment, marker_of, scan, scan_bytes

MAX = 1 << 20


def journal_in(folder, *, max_bytes=MAX, segment_bytes=400):
    journal = Journal(folder, max_bytes, segment_bytes=segment_bytes)
    journal.open()
    return journal


def adopt(journal):
    """Take over what dead processes have left: events, files that ended within one, damage."""
    journal.adopt()
    events = torn = damaged = 0
    while found := journal.read_adopted():
        events += len(found.bodies)
        torn += found.torn
        damaged += found.damaged
    return events, torn, damaged


def append(journal, body, *, taken):
    """Write one event; None where it is not written."""
    refs = journal.append([body], taken=taken)
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
    while taken := journal.take():
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


def test_what_the_writer_sends_by_itself_is_not_handed_out(journal):
    append(journal, b"mine", taken=True)
    append(journal, b"the journal's", taken=False)
    assert bodies(drained(journal)) == [b"the journal's"]
    assert (journal.waiting, journal.unsent) == (2, 0)


def test_a_segment_goes_when_all_of_it_is_settled(journal, tmp_path):
    refs = [append(journal, bytes(150), taken=True) for _ in range(6)]
    assert len(files(tmp_path)) == 2
    for ref in refs[:3]:
        journal.settle(ref)
    assert len(files(tmp_path)) == 1


def test_the_file_being_written_is_emptied_when_all_of_it_is_settled(journal, tmp_path):
    journal.settle(append(journal, b"a", taken=True))
    (name,) = files(tmp_path)
    assert (tmp_path / name).stat().st_size == 0
    second = append(journal, b"b", taken=True)
    assert files(tmp_path) == [name]
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
    assert adopt(following) == (3, 0, 0)
    taken = drained(following)
    assert bodies(taken) == [b"unsent", b"in flight", b"settled"]
    for ref, _ in taken:
        following.settle(ref)
    following.release()
    assert not list(tmp_path.iterdir())


def test_what_is_acknowledged_after_the_end_disturbs_nothing(journal, tmp_path):
    ref = append(journal, b"one", taken=True)
    journal.release()
    journal.settle(ref)
    assert (journal.waiting, journal.unsent) == (0, 0)
    assert adopt(journal_in(tmp_path)) == (1, 0, 0), "its file is the next process's"


def test_a_living_process_keeps_its_own(journal, tmp_path):
    append(journal, b"a", taken=False)
    other = journal_in(tmp_path)
    assert adopt(other) == (0, 0, 0)
    assert other.waiting == 0


def test_only_one_takes_over(journal, tmp_path):
    append(journal, b"a", taken=False)
    journal.release()
    first, second = journal_in(tmp_path), journal_in(tmp_path)
    assert adopt(first) == (1, 0, 0)
    assert adopt(second) == (0, 0, 0)


@pytest.mark.parametrize("has_read", [True, False])
def test_who_took_over_and_died_is_taken_over(journal, tmp_path, *, has_read):
    append(journal, b"a", taken=False)
    journal.release()
    second = journal_in(tmp_path)
    second.adopt()
    if has_read:
        second.read_adopted()
        second.take()
    second.abandon()
    assert adopt(journal_in(tmp_path)) == (1, 0, 0)


def test_locks_of_the_dead_without_a_file_are_cleaned_up(tmp_path):
    (tmp_path / "0123456789abcdef.lock").touch()
    journal = journal_in(tmp_path)
    journal.adopt()
    journal.release()
    assert not list(tmp_path.iterdir())


def refuse(number, text):
    def flock(file, operation):
        raise OSError(number, text)

    return flock


@pytest.mark.parametrize(
    ("flock", "why"),
    [
        (refuse(errno.ENOLCK, "No locks available"), "No locks available"),
        (refuse(errno.EOPNOTSUPP, "Operation not supported"), "Operation not supported"),
        (refuse(errno.ENOSYS, "Function not implemented"), "Function not implemented"),
        (lambda file, operation: None, "twice"),
    ],
    ids=["no lock daemon", "not supported", "no such call", "locks that lock nothing"],
)
def test_without_locks_there_is_no_journal_and_nothing_is_left(tmp_path, monkeypatch, flock, why):
    calls = []
    monkeypatch.setattr(fcntl, "flock", lambda *given: calls.append(given) or flock(*given))
    journal = Journal(tmp_path, MAX)
    with pytest.raises(OSError, match=why) as refusal:
        journal.open()
    assert str(tmp_path) in str(refusal.value)
    assert not journal.is_usable
    assert len(calls) <= 2, "each is tried once"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing_bytes", [1, 3, 12, 15, 20, 27])
def test_a_file_that_ends_within_an_event_is_counted_and_the_rest_is_sent(
    journal, tmp_path, missing_bytes
):
    append(journal, b"whole", taken=False)
    append(journal, b"unfinished", taken=False)
    journal.release()
    (name,) = files(tmp_path)
    os.truncate(tmp_path / name, (tmp_path / name).stat().st_size - missing_bytes)
    following = journal_in(tmp_path)
    assert adopt(following) == (1, 1, 0)
    ((ref, body),) = drained(following)
    assert body == b"whole"
    following.settle(ref)
    assert not files(tmp_path)
    assert not files(tmp_path, ".damaged")


@pytest.mark.parametrize("at", [0, 5, 13, 17, 22])
def test_damage_is_counted_and_kept_aside_and_the_rest_is_sent(journal, tmp_path, at):
    for body in (b"first", b"second", b"third"):
        append(journal, body, taken=False)
    journal.release()
    raw = damage(tmp_path, Segment.size_of(b"first") + at)
    following = journal_in(tmp_path)
    assert adopt(following) == (2, 0, 1)
    taken = drained(following)
    assert bodies(taken) == [b"first", b"third"]
    for ref, _ in taken:
        following.settle(ref)
    assert not files(tmp_path)
    assert (tmp_path / files(tmp_path, ".damaged")[0]).read_bytes() == raw


def damage(folder, at):
    """Change one byte of the only file; return what it holds then."""
    (name,) = files(folder)
    raw = bytearray((folder / name).read_bytes())
    raw[at] ^= 0xFF
    (folder / name).write_bytes(raw)
    return bytes(raw)


def test_damage_in_what_the_process_itself_wrote_costs_that_event_alone(journal, tmp_path):
    for body in (b"first", b"second", b"third"):
        append(journal, body, taken=False)
    damage(tmp_path, Segment.size_of(b"first") + 22)
    taken = drained(journal)
    assert bodies(taken) == [b"first", b"third"]
    assert (journal.lost, journal.waiting) == (1, 2)
    assert "1 events are deleted or damaged" in journal.problem
    for ref, _ in taken:
        journal.settle(ref)
    assert len(files(tmp_path, ".damaged")) == 1


def test_a_file_that_is_no_journal_is_kept_aside(tmp_path):
    (tmp_path / "0123456789abcdef.000001.journal").write_bytes(b"not ours at all" * 10)
    assert adopt(journal_in(tmp_path)) == (0, 0, 1)
    assert len(files(tmp_path, ".damaged")) == 1


def test_a_file_of_gigabytes_and_a_pipe_are_not_read(tmp_path):
    with (tmp_path / "0123456789abcdef.000001.journal").open("wb") as file:
        file.truncate(10 << 30)
    os.mkfifo(tmp_path / "0123456789abcdef.000002.journal")
    assert adopt(journal_in(tmp_path)) == (0, 0, 2)


def test_damaged_files_do_not_fill_the_folder_for_ever(tmp_path):
    for number in range(5):
        (tmp_path / f"dead.{number}.damaged").write_bytes(bytes(100))
    journal = journal_in(tmp_path, max_bytes=1000)
    journal.adopt()
    assert files(tmp_path, ".damaged") == ["dead.3.damaged", "dead.4.damaged"], "a quarter"
    assert append(journal, bytes(700), taken=True)


def test_what_was_damaged_once_leaves_its_room_to_others(tmp_path):
    journal = journal_in(tmp_path, max_bytes=1000, segment_bytes=10_000)
    for _ in range(30):
        assert append(journal, bytes(100), taken=False)
        damage(tmp_path, 50)
        assert not drained(journal)
    assert journal.lost == 30


def test_a_sealed_file_that_disappears_is_counted_as_lost(tmp_path):
    journal = journal_in(tmp_path, segment_bytes=1)
    append(journal, b"a", taken=False)
    (name,) = files(tmp_path)
    append(journal, b"b", taken=False)
    (tmp_path / name).unlink()
    assert bodies(drained(journal)) == [b"b"]
    assert (journal.lost, journal.waiting) == (1, 1)


def test_a_file_that_is_deleted_while_it_is_written_costs_nothing(journal, tmp_path):
    append(journal, b"a", taken=False)
    (tmp_path / files(tmp_path)[0]).unlink()
    for body in (b"b", b"c"):
        append(journal, body, taken=False)
    assert bodies(drained(journal)) == [b"a", b"b", b"c"]
    assert journal.lost == 0


@pytest.mark.parametrize("makes_another", [False, True])
def test_a_folder_that_is_renamed_while_it_is_written_costs_nothing(tmp_path, makes_another):
    journal = journal_in(tmp_path / "spool")
    append(journal, b"a", taken=False)
    (tmp_path / "spool").rename(tmp_path / "aside")
    if makes_another:
        (tmp_path / "spool").mkdir()
    append(journal, b"b", taken=False)
    assert bodies(drained(journal)) == [b"a", b"b"]
    assert journal.lost == 0
    journal.abandon()


@pytest.mark.parametrize("suffixes", [{".lock"}, {".lock", ".journal"}])
def test_a_journal_whose_lock_was_deleted_is_not_taken_over(journal, tmp_path, suffixes):
    append(journal, b"a", taken=True)
    for path in [path for path in tmp_path.iterdir() if path.suffix in suffixes]:
        path.unlink()
    append(journal, b"b", taken=False)
    other = journal_in(tmp_path)
    assert adopt(other)[0] == (".journal" not in suffixes), "what was written before, if any"
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
        ((segment, _),) = drained(journal)
        journal.settle(segment)
    assert journal.lost == 0


def test_a_file_that_cannot_be_opened_now_is_read_later(journal, monkeypatch):
    given = [b"%02d" % number * 20 for number in range(40)]
    journal.append(given[:20], taken=False)
    first = journal.take()
    journal.append(given[20:], taken=False)

    def too_many(path, *_):
        raise OSError(24, "Too many open files", str(path))

    monkeypatch.setattr(Path, "open", too_many)
    monkeypatch.setattr(os, "pread", too_many)
    assert not journal.take()
    assert "Too many open files" in journal.problem
    monkeypatch.undo()
    assert bodies([*first, *drained(journal)]) == given
    assert journal.lost == 0


def test_an_adopted_file_that_cannot_be_opened_now_is_read_later(journal, tmp_path, monkeypatch):
    append(journal, b"old", taken=False)
    journal.release()
    following = journal_in(tmp_path)

    def too_many(path):
        raise OSError(24, "Too many open files", str(path))

    monkeypatch.setattr(Path, "read_bytes", too_many)
    assert adopt(following) == (0, 0, 0)
    assert "Too many open files" in following.problem
    monkeypatch.undo()
    assert adopt(following) == (1, 0, 0)
    assert bodies(drained(following)) == [b"old"]


def test_a_write_goes_on_between_two_files_of_a_dead_process(journal, tmp_path):
    for _ in range(3):
        append(journal, bytes(500), taken=False)
    journal.release()
    following = journal_in(tmp_path)
    following.adopt()
    following.read_adopted()
    assert append(following, b"new", taken=False)
    assert (following.waiting, following.unsent) == (2, 2)


def test_what_is_read_when_the_journal_is_closed_is_left_to_the_next(journal, tmp_path):
    append(journal, b"old", taken=False)
    journal.release()
    following = journal_in(tmp_path)
    following.adopt()
    following.release()
    assert adopt(journal_in(tmp_path)) == (1, 0, 0)


def test_past_the_bound_the_newest_is_refused_and_says_why(tmp_path):
    journal = journal_in(tmp_path, max_bytes=1000)
    refs = []
    while ref := append(journal, bytes(100), taken=True):
        refs.append(ref)
    assert len(refs) == 1000 // Segment.size_of(bytes(100))
    assert "1000 bytes (LLMLOG_JOURNAL_MAX_BYTES)" in journal.problem
    for ref in refs:
        journal.settle(ref)
    assert append(journal, bytes(100), taken=True)


def test_what_others_hold_counts_against_the_bound(tmp_path):
    other = journal_in(tmp_path, max_bytes=1000)
    append(other, bytes(600), taken=True)
    journal = journal_in(tmp_path, max_bytes=1000)
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
    assert len(journal.append([b"a", b"bb", b"ccc"], taken=False)) == 3
    assert len(written) == 1
    assert bodies(drained(journal)) == [b"a", b"bb", b"ccc"]


def test_of_several_the_first_are_written_where_there_is_no_room_for_all(tmp_path):
    journal = journal_in(tmp_path, max_bytes=1000)
    given = [bytes([number]) * 100 for number in range(20)]
    refs = journal.append(given, taken=False)
    assert len(refs) == 1000 // Segment.size_of(bytes(100))
    assert "1000 bytes" in journal.problem
    assert bodies(drained(journal)) == given[: len(refs)]


def test_of_several_none_is_left_by_a_full_disk(journal, monkeypatch):
    fill_disk(monkeypatch, takes=20)
    assert not journal.append([bytes(20), bytes(20)], taken=True)
    monkeypatch.undo()
    assert journal.waiting == 0
    append(journal, b"after", taken=False)
    assert bodies(drained(journal)) == [b"after"]


def test_a_disk_that_takes_nothing_back_costs_no_event(journal, monkeypatch):
    write, given = os.write, [b"%02d" % number * 10 for number in range(8)]

    def full_after_two(fd, data):
        if len(data) > 90:
            return write(fd, data[:90])
        if len(data) > 40:
            raise OSError(5, "Input/output error")
        return write(fd, data)

    def stuck(fd, size):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "write", full_after_two)
    monkeypatch.setattr(os, "ftruncate", stuck)
    assert len(journal.append(given, taken=False)) == len(given)
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


MARKER = marker_of("owner.1.journal")


def frame(body, *, length=None):
    size = len(body) if length is None else length
    return MARKER + struct.pack(">II", size, zlib.crc32(body)) + body


def test_a_length_of_gigabytes_is_not_believed():
    assert scan_bytes(frame(b"abc", length=0xFFFFFFFF), MARKER) == ([], True, 0)


@settings(max_examples=50)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40).map(lambda body: (frame(body), body)),
            st.binary(max_size=40).map(lambda body: (b"?" + body, None)),
            st.binary(max_size=40).map(lambda body: (frame(body, length=len(body) + 1), None)),
        ),
        max_size=30,
    )
)
def test_every_whole_frame_is_found_whatever_lies_between(parts):
    found = scan_bytes(b"".join(raw for raw, _ in parts), MARKER)
    assert found.bodies == [body for _, body in parts if body is not None]
    assert (found.damaged > 0 or found.torn) == any(body is None for _, body in parts)


def test_no_payload_is_taken_for_a_frame(journal, tmp_path):
    forged = frame(b"forged")
    append(journal, b"{" + forged + b"}", taken=False)
    append(journal, b"next", taken=False)
    journal.release()
    damage(tmp_path, Segment.size_of(b""))  # the brace before it
    following = journal_in(tmp_path)
    assert adopt(following) == (1, 0, 1)
    assert bodies(drained(following)) == [b"next"]


HOSTILE = {
    "old magic": lambda size: b"LLJ1" * (size // 4),
    "beginnings of markers": lambda size: MARKER[:-1] * (size // 11),
    "markers alone": lambda size: MARKER * (size // 12),
    "lengths that reach to the end": lambda size: b"".join(
        frame(b"", length=size - at - 20) for at in range(0, size - 20, 20)
    ),
    "one frame over all others": lambda size: frame(frame(b"x") * (size // 21)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_time_to_read_a_file_grows_as_its_size(kind):
    def seconds(size):
        data, best = HOSTILE[kind](size), 9.0
        for _ in range(3):
            began = time.process_time()
            scan_bytes(data, MARKER)
            best = min(best, time.process_time() - began)
        return best

    small, large = seconds(1 << 17), seconds(1 << 20)
    assert large < 0.05 + 8 * 4 * small, "eight times the size, with a wide margin"


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
        assert len(self.journals[which].append(given, taken=False)) == number
        self.open.update(given)

    @rule(which=st.integers(0, 1))
    def send(self, which):
        for ref, body in self.journals[which].take():
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

    @rule(which=st.integers(0, 1))
    def look_around(self, which):
        self.journals[which].adopt()

    @rule(which=st.integers(0, 1))
    def read(self, which):
        if found := self.journals[which].read_adopted():
            assert found.damaged == 0

    @rule(which=st.integers(0, 1), data=st.data())
    def crash(self, which, data):
        before = set(files(self.folder))
        self.journals[which].abandon()
        self.in_flight = [entry for entry in self.in_flight if entry[0] is not self.journals[which]]
        following = journal_in(self.folder, segment_bytes=120)
        following.adopt()
        if orphans := sorted(set(files(self.folder)) - before):
            self._tear(self.folder / data.draw(st.sampled_from(orphans)), data)
        self.journals[which] = following

    def _tear(self, path: Path, data):
        """Truncate a file that was being written: only events past its new end are lost."""
        whole = scan(path).bodies
        size = data.draw(st.integers(0, path.stat().st_size))
        os.truncate(path, size)
        self.open -= set(whole[len(scan(path).bodies) :])

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
        adopt(last)
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
