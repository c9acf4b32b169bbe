"""What a real broker refuses to a running consumer, and allows again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from llmlog_common.settings import Settings, load
from llmlog_consumer.dead_letters.cause import Cause, Ending, Stage
from llmlog_consumer.dead_letters.writer import LetterWriter, PendingLetter
from llmlog_consumer.kafka.admin import KafkaAdmin
from llmlog_consumer.kafka.consumer import GroupConsumer
from llmlog_consumer.offset_tracker import Commit
from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import free_ports
from support.messages import Message
from support.pipeline import wait_until

NAME = "refused"
"""Of topic and group."""
AUTHORIZER = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}


@dataclass
class Member:
    """A consumer that commits where it stands, as the worker does with its notes."""

    admin: AdminClient
    settings: Settings
    source: GroupConsumer = field(init=False)
    at: dict[int, int] = field(default_factory=dict)

    def turn(self) -> GroupConsumer:
        """Consume and commit."""
        for record in self.source.consume(0.1):
            self.at[record.partition()] = record.offset() + 1
        self.source.commit([Commit(p, offset, -1) for p, offset in self.at.items()])
        return self.source

    def until(self, condition: Callable[[GroupConsumer], object]) -> None:
        wait_until(lambda: condition(self.turn()), 30, "see the condition")

    def on_assigned(self, offsets: Mapping[int, int], _notes: object) -> Iterable[int]:
        self.at |= offsets
        return ()

    def on_revoked(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            self.at.pop(partition, None)

    on_lost = on_revoked

    def on_commit_failed(self, partitions: Sequence[int]) -> None:
        pass


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """A member of a group, on a broker that asks who may do what."""
    folder: Path = tmp_path_factory.mktemp("kafka")
    with KafkaServer(folder, *free_ports(1), properties=AUTHORIZER) as server:
        admin = AdminClient({"bootstrap.servers": server.bootstrap_servers})
        create(admin)
        environment = {
            "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": server.bootstrap_servers,
            "LLMLOG_TOPIC": NAME,
            "LLMLOG_GROUP": NAME,
        }
        member = Member(admin, load(environ=environment))
        member.source = GroupConsumer(member.settings, member)
        member.until(lambda source: source.joined)
        yield member
        member.source.close(10)


def create(admin: AdminClient) -> None:
    """Make the topic."""
    admin.create_topics([NewTopic(NAME, 1, 1)])[NAME].result(30)


@pytest.mark.parametrize("kind", ["topic", "group"])
def test_a_forbidden_reading_is_a_refusal_until_it_is_allowed_again(
    member: Member, kind: str
) -> None:
    what = (ResourceType[kind.upper()], NAME, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*")
    everything = AclBinding(*what, AclOperation.ALL, AclPermissionType.ALLOW)
    no_reading = AclBinding(*what, AclOperation.READ, AclPermissionType.DENY)
    for future in member.admin.create_acls([everything, no_reading]).values():
        future.result(30)
    member.until(lambda source: f"{kind.title()} authorization failed" in source.unhealthy)
    again = AclBindingFilter(*what, AclOperation.ANY, AclPermissionType.ANY)
    for future in member.admin.delete_acls([again]).values():
        future.result(30)
    member.until(lambda source: not source.unhealthy)


def test_a_topic_that_is_deleted_is_a_refusal_until_it_is_there_again(member: Member) -> None:
    member.until(lambda source: not source.unhealthy)
    member.admin.delete_topics([NAME])[NAME].result(30)
    member.until(lambda source: "run `pipeline setup`" in source.unhealthy)
    create(member.admin)
    member.until(lambda source: not source.unhealthy)


def deny(admin: AdminClient, *bindings: tuple[ResourceType, str, AclOperation]) -> None:
    """Allow everything on these, but for one operation each."""
    allowed, denied = AclPermissionType.ALLOW, AclPermissionType.DENY
    every = [
        AclBinding(kind, name, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", what, how)
        for kind, name, operation in bindings
        for what, how in ((AclOperation.ALL, allowed), (operation, denied))
    ]
    for future in admin.create_acls(every).values():
        future.result(30)


def allow_everything(admin: AdminClient) -> None:
    """Take back what `deny` did."""
    every = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None,
        AclOperation.ANY, AclPermissionType.ANY,
    )  # fmt: skip
    for future in admin.delete_acls([every]).values():
        future.result(30)


LETTERS = "refused-letters"
NO_WRITE = {
    "on the topic": [(ResourceType.TOPIC, LETTERS, AclOperation.WRITE)],
    "on any topic": [
        (ResourceType.BROKER, "kafka-cluster", AclOperation.IDEMPOTENT_WRITE),
        (ResourceType.TOPIC, "*", AclOperation.WRITE),
    ],
}


@pytest.mark.parametrize("where", NO_WRITE)
def test_a_letter_that_may_not_be_written_waits_until_it_may(member: Member, where: str) -> None:
    if LETTERS not in member.admin.list_topics(timeout=30).topics:
        member.admin.create_topics([NewTopic(LETTERS, 1, 1)])[LETTERS].result(30)
    settings = member.settings.model_copy(update={"dlq_topic": LETTERS})
    admin = KafkaAdmin(settings)
    assert admin.missing_rights(LETTERS, "WRITE", "READ") == set()
    deny(member.admin, *NO_WRITE[where])
    wait_until(
        lambda: admin.missing_rights(LETTERS, "WRITE", "READ") == {"WRITE"}, 30, "miss the right"
    )
    delivered: list[int] = []
    writer = LetterWriter(settings, 1)
    cause = Cause(Stage.DECODE, Ending.POISON, reason="r")
    for number in range(3):
        writer.write(PendingLetter(Message(), cause, partial(delivered.append, number)))
    wait_until(lambda: writer.poll() or "grant WRITE on it" in writer.refusal, 30, "be refused")
    allow_everything(member.admin)
    wait_until(lambda: writer.poll() or len(delivered) == 3, 60, "deliver the letters")
    assert writer.refusal == ""
