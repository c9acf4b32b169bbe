"""A member of the group: assignments, commits, and what Kafka refuses while it runs."""

import threading
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from llmlog_common.settings import load
from llmlog_consumer.kafka.consumer import GroupConsumer, Timing
from llmlog_consumer.kafka.errors import REFUSAL_REPEAT_SECONDS, FatalError, FencedError
from llmlog_consumer.kafka.start_offsets import Timing as StartTiming
from llmlog_consumer.offset_tracker import Commit
from support.fakes.kafka import FakeConsumer, fatal_error

REFUSALS = [
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._AUTHENTICATION, KafkaError._SSL,
]  # fmt: skip
FAST = Timing(commit_retry=0.0, start=StartTiming(request=1.0, give_up=60.0, retry=0.0))
EAGER = {"LLMLOG_KAFKA_CONSUMER_PARTITION_ASSIGNMENT_STRATEGY": "range"}


class Worker:
    """The listener: remembers its calls."""

    def __init__(self):
        self.calls = []
        self.paused = set()
        self.error = None

    def on_assigned(self, offsets, notes):
        self.notes = notes
        self.calls.append(("assigned", dict(offsets)))
        if self.error:
            raise self.error
        return self.paused

    def on_revoked(self, partitions):
        self.calls.append(("revoked", list(partitions)))

    def on_lost(self, partitions):
        self.calls.append(("lost", list(partitions)))

    def on_commit_failed(self, partitions):
        self.calls.append(("commit failed", list(partitions)))


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def client():
    return FakeConsumer()


@pytest.fixture
def worker():
    return Worker()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def source(client, worker, clock):
    return GroupConsumer(load(environ={}), worker, client=client, timing=FAST, clock=clock)


def message(code=None, partition=0, offset=41, reason=None):
    error = None if code is None else KafkaError(code, reason)
    return SimpleNamespace(error=lambda: error, partition=lambda: partition, offset=lambda: offset)


def committed(error=None):
    return [SimpleNamespace(partition=0, error=error)]


# What Kafka refuses


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("way", ["message", "error", "commit", "part of a commit"])
def test_a_refusal_is_remembered_wherever_it_is_met(source, client, code, way):
    error = KafkaError(code)
    if way == "message":
        client.messages = [message(code)]
        assert source.consume(0.0) == []
    elif way == "error":
        client.config["error_cb"](error)
    else:
        client.config["on_commit"](error if way == "commit" else None, committed(error))
    assert error.str() in source.unhealthy


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN])
def test_brokers_that_are_away_refuse_nothing(source, client, code):
    client.config["error_cb"](KafkaError(code))
    client.config["on_commit"](KafkaError(code), committed())
    assert source.unhealthy == ""


def test_a_connection_that_fails_has_the_metadata_asked_for_at_the_next_look(source, client):
    """A broker may be gone; what it led has another leader, or none."""
    refused = KafkaError(KafkaError._TRANSPORT, "Connection refused")

    def asks(*errors):
        client.errors = list(errors)
        source.watch([0], {})
        for thread in threading.enumerate():
            if thread.name == "llmlog-metadata":
                thread.join(5)
        return not client.errors

    client.topic_metadata = SimpleNamespace(error=None, partitions={})
    assert asks(), "the first look has its answer"
    assert not asks(refused)
    client.config["error_cb"](refused)
    assert asks(refused)
    assert asks(refused)
    assert "Connection refused" in source.unhealthy


@pytest.mark.parametrize("end", ["records", "commit"])
def test_a_refusal_ends_with_records_or_with_a_commit(source, client, end):
    client.config["error_cb"](KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    source.consume(0.0)
    assert source.unhealthy
    if end == "records":
        client.messages = [message(), message(KafkaError._PARTITION_EOF)]
        assert len(source.consume(0.0)) == 1
    else:
        client.config["on_commit"](None, [TopicPartition("t", 0, 7)])
    assert source.unhealthy == ""


def test_a_commit_that_fails_for_another_reason_ends_no_refusal(source, client):
    client.config["error_cb"](KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    client.config["on_commit"](KafkaError(KafkaError._TIMED_OUT), committed())
    assert source.unhealthy


@pytest.mark.parametrize(
    ("code", "ends"),
    [(KafkaError._AUTHENTICATION, True), (KafkaError.TOPIC_AUTHORIZATION_FAILED, False)],
)
def test_a_member_without_partitions_sees_that_credentials_are_accepted_again(
    source, client, clock, code, ends
):
    """It has no records and no commits to see it by; the client repeats the error until then."""
    for clock.now in (0.0, 100.0):
        client.config["error_cb"](KafkaError(code))
    clock.now = 210.0
    assert source.unhealthy
    clock.now = 100.0 + REFUSAL_REPEAT_SECONDS
    assert bool(source.unhealthy) is not ends


FENCED_TEXTS = [
    "Fatal error: Broker: Static consumer fenced by other consumer with same group.instance.id",
    "Fatal error: Broker: The instance ID is still used by another member in the consumer group",
]


@pytest.mark.parametrize("way", ["message", "error", "commit"])
@pytest.mark.parametrize(
    ("code", "reason"),
    [(KafkaError._FENCED, None), (KafkaError.FENCED_INSTANCE_ID, None)]
    + [(KafkaError._FATAL, text) for text in FENCED_TEXTS],
)
def test_a_fenced_member_ends_and_names_its_instance_id(client, worker, way, code, reason):
    settings = load(environ={"LLMLOG_KAFKA_CONSUMER_GROUP_INSTANCE_ID": "host"})
    source = GroupConsumer(settings, worker, 3, client=client, timing=FAST)
    with pytest.raises(FencedError, match=r"group\.instance\.id host-3: give each host"):
        fail(source, client, way, KafkaError(code, reason))


@pytest.mark.parametrize("way", ["message", "error", "commit"])
@pytest.mark.parametrize("error", [fatal_error(), KafkaError(KafkaError._FATAL, "out of order")])
def test_a_fatal_error_ends_the_member_with_the_clients_own_reason(source, client, way, error):
    with pytest.raises(FatalError, match=error.str()):
        fail(source, client, way, error)


def fail(source, client, way, error):
    """Let the client say that it is of no use any more."""
    if way == "commit":
        client.errors = [error]
        source.commit([Commit(0, 7, -1)])
    elif way == "message":
        client.messages = [SimpleNamespace(error=lambda: error, partition=lambda: 0)]
    else:
        client.config["error_cb"](error)
    source.consume(0.0)


# Partitions that stand still


@pytest.mark.parametrize("code", [KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE])
def test_a_partition_that_is_out_of_range_stands_still_and_the_others_go_on(source, client, code):
    client.messages = [message(code), message(partition=1)]
    assert len(source.consume(0.0)) == 1
    assert set(source.standstills) == {0}
    source.skip_gap(0, 70)
    assert not source.standstills
    assert client.assigned == {0: 70}


DAMAGES = [
    KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError._NOT_IMPLEMENTED,
    KafkaError.INVALID_MSG, KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.UNKNOWN,
]  # fmt: skip


@pytest.mark.parametrize("code", DAMAGES)
def test_nothing_behind_a_damaged_batch_is_taken_and_the_other_partitions_go_on(
    source, client, code
):
    client.messages = [message(offset=40), message(code), message(offset=90)]
    client.messages += [message(partition=1, offset=5), message(code)]
    assert [m.offset() for m in source.consume(0.0)] == [40, 5]
    assert client.paused == [0]
    client.messages = [message(offset=91), message(partition=1, offset=6)]
    assert [m.offset() for m in source.consume(0.0)] == [6]


def test_a_damaged_batch_is_named_with_its_place_and_what_to_do(source, client):
    client.messages = [message(KafkaError._BAD_MSG, partition=3, reason="failed CRC32C check")]
    source.consume(0.0)
    for part in (
        "partition 3 stands still at offset 41", "failed CRC32C check", "every 60 s",
        "`pipeline offsets accept-gap litellm-logs/3`",
    ):  # fmt: skip
        assert part in source.unhealthy


def test_the_position_behind_a_damaged_batch_is_not_followed(source, client):
    client.positions = {0: 900, 1: 8}
    assert source.positions([0, 1]) == {0: 900, 1: 8}
    client.messages = [message(KafkaError._BAD_MSG)]
    source.consume(0.0)
    assert source.positions([0, 1]) == {1: 8}
    source.read_again(0, 41)
    assert source.positions([0, 1]) == {1: 8}


def test_a_damaged_partition_stays_paused_whatever_the_worker_pauses(source, client):
    client.messages = [message(KafkaError._BAD_MSG)]
    source.consume(0.0)
    source.pause_only({1})
    source.pause_only(set())
    assert client.resumed == [1]


@pytest.mark.parametrize("environ", [{}, EAGER], ids=["cooperative", "eager"])
def test_a_damaged_partition_is_sought_back_and_goes_on_where_its_batch_is_restored(
    client, worker, clock, environ
):
    client.committed_offsets = {0: 7, 1: 7}
    source = GroupConsumer(load(environ=environ), worker, client=client, timing=FAST, clock=clock)
    client.rebalance("on_assign", 0, 1)
    client.positions = {1: 30}
    client.messages = [message(KafkaError._BAD_MSG)]
    source.consume(0.0)
    assert source.standstills.due() == []
    clock.now = 60.0
    assert source.standstills.due() == [0]
    source.read_again(0, 41)
    assert client.assigned[0] == 41
    assert source.unhealthy, "until a record has come"
    client.messages = [message(offset=41)]
    assert len(source.consume(0.0)) == 1
    assert source.unhealthy == ""


def test_a_batch_that_is_still_damaged_is_read_again_later(source, client, clock):
    client.messages = [message(KafkaError._BAD_MSG)]
    source.consume(0.0)
    clock.now = 60.0
    source.read_again(0, 41)
    client.messages = [message(KafkaError._BAD_MSG), message(KafkaError._AUTO_OFFSET_RESET)]
    assert source.consume(0.0) == []
    assert "a damaged batch" in source.unhealthy
    clock.now = 119.0
    assert source.standstills.due() == []
    clock.now = 120.0
    assert source.standstills.due() == [0]


def test_a_partition_that_is_given_away_stands_still_no_more(source, client):
    client.committed_offsets = {0: 1}
    client.rebalance("on_assign", 0)
    client.messages = [message(KafkaError._BAD_MSG)]
    source.consume(0.0)
    client.rebalance("on_revoke", 0)
    assert source.unhealthy == ""


def test_a_truncated_log_is_named_as_such_and_not_read_again(source, client, clock):
    reason = "Partition log truncation detected at offset 150 (leader epoch 0)"
    client.messages = [message(KafkaError._AUTO_OFFSET_RESET, reason=reason)]
    source.consume(0.0)
    assert "the log was truncated" in source.unhealthy
    clock.now = 1e6
    assert source.standstills.due() == []


def test_the_broker_is_asked_for_the_epoch_before_a_record_is_taken(source, client):
    """The client asks within `seek` alone; what it has fetched before may be of another log."""
    client.committed_offsets, client.epochs = {0: 41, 1: 7}, {0: 5}
    client.rebalance("on_assign", 0, 1)
    client.messages = [message(), message(partition=1, offset=7)]
    client.errors = [KafkaError(KafkaError._STATE)]
    assert [m.partition() for m in source.consume(0.0)] == [1]
    client.positions = {0: 42, 1: 8}
    assert source.positions([0, 1]) == {1: 8}, "no watermark passes what was not taken"
    client.messages = [message(), message(partition=1, offset=8)]
    assert [m.partition() for m in source.consume(0.0)] == [1]
    assert client.sought == [(0, 41, 5)]
    client.messages = [message()]
    assert len(source.consume(0.0)) == 1


def test_an_error_at_an_unchecked_start_is_not_lost(source, client):
    """The client says it once; then it fetches no more, and refuses to seek."""
    client.committed_offsets, client.epochs = {0: 41}, {0: 5}
    client.rebalance("on_assign", 0)
    client.messages = [message(KafkaError._AUTO_OFFSET_RESET)]
    client.errors = [KafkaError(KafkaError._STATE)]
    assert source.consume(0.0) == []
    assert "partition 0 stands still" in source.unhealthy
    assert source.consume(0.0) == []
    assert client.sought == []


def test_an_error_from_before_the_broker_was_asked_counts_for_nothing(source, client):
    client.committed_offsets, client.epochs = {0: 41}, {0: 5}
    client.rebalance("on_assign", 0)
    client.messages = [message(KafkaError._AUTO_OFFSET_RESET)]
    assert source.consume(0.0) == []
    assert (client.sought, source.unhealthy) == ([(0, 41, 5)], "")


@pytest.mark.parametrize("way", ["given away", "skipped"])
def test_a_partition_that_is_read_elsewhere_is_not_sought_back(source, client, way):
    client.committed_offsets, client.epochs = {0: 41}, {0: 5}
    client.rebalance("on_assign", 0)
    if way == "skipped":
        source.skip_gap(0, 70)
    else:
        client.rebalance("on_revoke", 0)
    source.consume(0.0)
    assert client.sought == []


def test_a_commit_before_the_first_record_keeps_the_epoch_that_was_committed(source, client):
    client.committed_offsets, client.epochs = {0: 41}, {0: 5}
    client.rebalance("on_assign", 0)
    for offset, epoch in ((41, -1), (42, -1), (42, 6)):
        source.commit([Commit(0, offset, epoch)])
    assert [places[0].leader_epoch for places in client.commits] == [5, None, 6]


# Assignments


@pytest.mark.parametrize("environ", [{}, EAGER], ids=["cooperative", "eager"])
def test_a_partition_is_read_from_its_committed_offset_and_a_new_one_from_its_start(
    client, worker, environ
):
    client.committed_offsets, client.marks = {0: 41}, {1: (5, 900)}
    source = GroupConsumer(load(environ=environ), worker, client=client, timing=FAST)
    assert not source.joined
    client.rebalance("on_assign", 0, 1)
    assert client.assigned == {0: 41, 1: 5}
    assert worker.calls == [("assigned", {0: 41, 1: 5})]


def test_an_owner_gets_the_notes_of_the_last_one(source, client, worker):
    client.committed_offsets, client.marks = {0: 41, 1: 42}, {2: (5, 9)}
    client.metadata = {0: '{"circuit": "0123456789ab"}', 1: "of another program"}
    client.rebalance("on_assign", 0, 1, 2)
    assert worker.notes == {0: {"circuit": "0123456789ab"}, 1: {}, 2: {}}
    assert source.joined


def test_an_assignment_waits_for_brokers_that_do_not_answer(source, client):
    client.marks = {0: (3, 9)}
    codes = (KafkaError._TRANSPORT, KafkaError.NOT_COORDINATOR, KafkaError._UNKNOWN_PARTITION)
    client.errors = [KafkaError(code) for code in codes]
    client.rebalance("on_assign", 0)
    source.consume(0.0)
    assert client.assigned == {0: 3}


@pytest.mark.parametrize("way", ["the whole answer", "one partition"])
def test_a_committed_offset_that_is_refused_is_not_taken_for_none(source, client, way):
    refusal = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
    client.marks = {0: (0, 900)}
    if way == "one partition":
        client.committed_offsets = {0: refusal}
    else:
        client.errors = [refusal]
    client.rebalance("on_assign", 0)
    assert client.assigned == {}
    with pytest.raises(KafkaException):
        source.consume(0.0)


def test_partitions_that_the_worker_does_not_want_yet_are_assigned_paused(source, client, worker):
    client.committed_offsets, worker.paused = {0: 1, 1: 1}, {1, 7}
    client.rebalance("on_assign", 0, 1)
    assert (client.paused, client.resumed) == ([1], [0])
    source.pause_only({0})
    assert (client.paused, client.resumed) == ([1, 0], [0, 1])


def test_revoked_partitions_are_settled_before_they_go(source, client, worker):
    client.committed_offsets = {0: 1, 1: 1}
    client.rebalance("on_assign", 0, 1)
    client.rebalance("on_revoke", 1)
    assert worker.calls[1:] == [("revoked", [1])]
    assert client.assigned == {0: 1}


def test_lost_partitions_are_given_up_without_a_commit(source, client, worker):
    """Others own them already: a commit could set their offsets back."""
    client.committed_offsets = {0: 1, 1: 1}
    client.rebalance("on_assign", 0, 1)
    client.rebalance("on_lost", 0, 1)
    assert worker.calls[1:] == [("lost", [0, 1])]
    assert client.assigned == {}
    assert client.commits == []


def test_a_callback_that_fails_ends_the_next_consume(source, client, worker):
    client.committed_offsets, worker.error = {0: 1}, ValueError("broken")
    client.rebalance("on_assign", 0)
    with pytest.raises(ValueError, match="broken"):
        source.consume(0.0)


def test_workers_of_one_deployment_have_instance_ids_of_their_own(worker):
    ids = set()
    for number in range(3):
        client = FakeConsumer()
        settings = load(environ={"LLMLOG_KAFKA_CONSUMER_GROUP_INSTANCE_ID": "host"})
        GroupConsumer(settings, worker, number, client=client)
        ids.add(client.config["group.instance.id"])
    assert ids == {"host-0", "host-1", "host-2"}


# Commits


@pytest.mark.parametrize("code", [KafkaError.REBALANCE_IN_PROGRESS, KafkaError._TIMED_OUT])
def test_a_refused_commit_is_given_back_to_the_worker(client, source, worker, code):
    places = [TopicPartition("t", 0, 7), TopicPartition("t", 3, 9)]
    client.config["on_commit"](KafkaError(code), places)
    assert worker.calls == [("commit failed", [0, 3])]


def test_a_commit_that_is_refused_in_part_is_given_back_in_part(client, source, worker):
    refused = SimpleNamespace(partition=3, error=KafkaError(KafkaError.UNKNOWN_MEMBER_ID))
    client.config["on_commit"](None, [TopicPartition("t", 0, 7), refused])
    assert worker.calls == [("commit failed", [3])]


def test_an_accepted_commit_is_not_given_back(client, source, worker):
    client.config["on_commit"](None, [TopicPartition("t", 0, 7)])
    assert worker.calls == [("commit failed", [])]


def test_the_age_of_commits_begins_anew_with_one_that_kafka_has_confirmed(client, source, clock):
    refused = SimpleNamespace(partition=3, error=KafkaError(KafkaError.UNKNOWN_MEMBER_ID))
    for moment, error, places in (
        (5.0, KafkaError(KafkaError._TIMED_OUT), committed()),
        (6.0, None, [refused]),
        (7.0, None, committed()),
    ):
        clock.now = moment
        client.config["on_commit"](error, places)
        assert source.committed_at == (0.0 if moment < 7.0 else 7.0)


def test_a_commit_carries_the_leader_epoch_and_the_note_of_each_partition(client, source):
    source.commit([Commit(0, 7, 4), Commit(1, 9, -1)], {0: "note"})
    ((first, second),) = client.commits
    assert (first.offset, first.leader_epoch, first.metadata) == (7, 4, "note")
    assert (second.offset, second.leader_epoch, second.metadata) == (9, None, None)


def test_a_commit_at_the_end_is_tried_again_while_the_group_rebalances(client, source):
    client.errors = [KafkaError(KafkaError.REBALANCE_IN_PROGRESS)] * 2
    assert source.commit_within([Commit(0, 7, -1)], 5.0)
    assert [[place.offset for place in commit] for commit in client.commits] == [[7]] * 3


def test_a_commit_at_the_end_without_an_answer_is_not_waited_for_without_end(client, source):
    import threading

    answered = threading.Event()
    client.commit = lambda **_: answered.wait(5)
    assert not source.commit_within([Commit(0, 7, -1)], 0.01)
    answered.set()


@pytest.mark.parametrize(("at_most", "number"), [(None, 1000), (7, 7), (9000, 1000)])
def test_no_more_records_are_asked_for_than_the_caller_wants(source, client, at_most, number):
    source.consume(0.0, at_most)
    assert client.asked_for == number
