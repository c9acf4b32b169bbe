"""Owns the checks of Kafka for `pipeline doctor`: what its answers mean; no I/O."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from llmlog_common.kafka_clients import MAX_RECORD_BYTES
from llmlog_consumer.checks.doctor.findings import Check, Seen, green, red, skipped, yellow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from llmlog_common.settings import Settings
    from llmlog_consumer.checks.status import Status
    from llmlog_consumer.kafka.admin import Topic

_SETUP: Final = "pipeline setup --kafka-only"
_MIN_RETENTION: Final = timedelta(days=1)
_LAG_SHARE_OF_RETENTION: Final = 0.5
"""Age of the oldest waiting record, as a share of retention, from which on events are in danger."""
_MAX_FUTURE: Final = timedelta(minutes=1)
_MS: Final = timedelta(milliseconds=1)


class KafkaChecks:
    """The rows about Kafka of one deployment.

    Args:
        settings: as loaded.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._servers = settings.kafka_bootstrap_servers

    def rows(self) -> Iterable[Check]:
        """Yield the checks, in their order."""
        source, letters = self._settings.topic, self._settings.dlq_topic
        yield Check(
            "kafka.connection",
            "brokers answer and let us in",
            ("cluster",),
            self._judge_cluster,
            "check LLMLOG_KAFKA_BOOTSTRAP_SERVERS, and user, password and certificates in "
            "LLMLOG_KAFKA_…",
        )
        for role, topic in (("topic", source), ("dead_letters", letters)):
            yield from self._topic_rows(role, topic)
        yield Check(
            "dead_letters.sizes",
            "each letter fits the dead-letter topic",
            ("topic_config", "dead_letters_config"),
            self._judge_letter_size,
        )
        yield Check(
            "dead_letters.kept",
            "letters are kept as long as their records",
            ("topic_config", "dead_letters_config"),
            self._judge_letter_retention,
        )
        for name, kind in (("topic.rights", "topic"), ("group.rights", "group")):
            yield Check(
                name,
                f"this user has its rights on each {kind}",
                (f"missing_{kind}_rights",),
                self._judge_rights(kind),
                "grant Describe on it",
            )
        yield Check(
            "group.status", "the group settles what there is", ("status",), self._judge_group,
            "pipeline status",
        )  # fmt: skip
        yield Check(
            "group.retention",
            "what waits is read before retention deletes it",
            ("status", "topic_config"),
            self._judge_lag_against_retention,
        )
        yield Check(
            "group.offsets_kept",
            "offsets of a stopped group outlive its records",
            ("broker_config", "topic_config"),
            self._judge_offset_retention,
        )
        yield Check(
            "topic.clock",
            "no record is of the future",
            ("newest_ms", "now_ms"),
            self._judge_newest,
        )

    def _topic_rows(self, role: str, topic: str) -> Iterable[Check]:
        config, is_source = f"{role}_config", role == "topic"
        yield Check(f"{role}.exists", f"topic {topic} exists", ("cluster",), self._exists(topic))
        yield Check(
            f"{role}.leaders", "each partition has a leader", ("cluster",), self._leaders(topic)
        )
        yield Check(
            f"{role}.replication", "a broker may be lost", ("cluster",), self._replication(topic)
        )
        yield Check(
            f"{role}.min_insync",
            "an acknowledged record is on two brokers, and one may be away",
            ("cluster", config),
            self._min_insync(topic),
        )
        yield Check(f"{role}.cleanup", "records are not compacted", (config,), self._cleanup(topic))
        yield Check(
            f"{role}.retention", "records are kept for days", (config,), self._retention(topic)
        )
        if is_source:
            yield Check(
                "topic.sizes", "the largest event fits the topic", (config,), self._event_size
            )

    def _alter(self, topic: str, value: str) -> str:
        return (
            f"kafka-configs.sh --bootstrap-server {self._servers} --alter --entity-type topics "
            f"--entity-name {topic} --add-config {value}"
        )

    def _judge_cluster(self, cluster: tuple[Mapping[str, Topic], int]) -> Seen:
        topics, brokers = cluster
        many = "1 broker" if brokers == 1 else f"{brokers} brokers"
        return green(f"{many} at {self._servers}, {len(topics)} topics to be seen")

    def _exists(self, topic: str) -> Callable[..., Seen]:
        def judge(cluster: tuple[Mapping[str, Topic], int]) -> Seen:
            found = cluster[0].get(topic)
            if found is None:
                return red(f"{topic} is missing, or this user may not see it", _SETUP)
            return green(f"{found.partitions} partitions")

        return judge

    def _leaders(self, topic: str) -> Callable[..., Seen]:
        def judge(cluster: tuple[Mapping[str, Topic], int]) -> Seen:
            found = cluster[0][topic]
            if found.leaderless:
                numbers = ", ".join(map(str, sorted(found.leaderless)))
                return red(
                    f"partition {numbers} has no leader: nothing can be read or written there",
                    "start the brokers that have its replicas",
                )
            return green("all have one")

        return judge

    def _replication(self, topic: str) -> Callable[..., Seen]:
        def judge(cluster: tuple[Mapping[str, Topic], int]) -> Seen:
            found, brokers = cluster[0][topic], cluster[1]
            if found.replication > 1:
                return green(f"{found.replication} replicas on {brokers} brokers")
            if brokers == 1:
                return yellow(
                    "1 replica on 1 broker: its disk is the only copy",
                    "run three brokers, then set LLMLOG_REPLICATION=3 for new topics",
                )
            return yellow(
                f"1 replica, although there are {brokers} brokers: one disk is the only copy",
                f"kafka-reassign-partitions.sh --bootstrap-server {self._servers} with a plan "
                f"that gives each partition of {topic} {min(3, brokers)} replicas",
            )

        return judge

    def _min_insync(self, topic: str) -> Callable[..., Seen]:
        def judge(cluster: tuple[Mapping[str, Topic], int], config: Mapping[str, str]) -> Seen:
            found, number = cluster[0][topic], _number(config, "min.insync.replicas")
            if number is None:
                return skipped("the configuration of the topic is not to be seen")
            replicas, text = found.replication, f"{number} of {found.replication} replicas"
            wanted = max(1, min(2, replicas - 1))
            mend = self._alter(topic, f"min.insync.replicas={wanted}")
            if number > replicas:
                return red(f"{text}: no write can succeed", mend)
            if number == replicas > 1:
                return yellow(f"{text}: writes stop while one broker is away", mend)
            if number < wanted:
                return yellow(f"{text}: an acknowledged record may be on one disk alone", mend)
            return green(text)

        return judge

    def _cleanup(self, topic: str) -> Callable[..., Seen]:
        def judge(config: Mapping[str, str]) -> Seen:
            policy = config.get("cleanup.policy")
            if policy is None:
                return skipped("the configuration of the topic is not to be seen")
            if "compact" in policy:
                return red(
                    f"cleanup.policy={policy} deletes events",
                    self._alter(topic, "cleanup.policy=delete"),
                )
            return green(f"cleanup.policy={policy}")

        return judge

    def _retention(self, topic: str) -> Callable[..., Seen]:
        def judge(config: Mapping[str, str]) -> Seen:
            kept = _duration(config, "retention.ms")
            if kept is None:
                return skipped("the configuration of the topic is not to be seen, or has no bound")
            size = _number(config, "retention.bytes")
            if size is not None and size >= 0:
                return yellow(
                    f"retention.bytes={size} may delete records before {_days(kept)} are over",
                    self._alter(topic, "retention.bytes=-1"),
                )
            if kept < _MIN_RETENTION:
                wanted = int(self._settings.retention / _MS)
                return yellow(
                    f"kept for {_days(kept)}: a stop of the group for longer loses records",
                    self._alter(topic, f"retention.ms={wanted}"),
                )
            return green(f"kept for {_days(kept)}")

        return judge

    def _event_size(self, config: Mapping[str, str]) -> Seen:
        size = _number(config, "max.message.bytes")
        if size is None:
            return skipped("the configuration of the topic is not to be seen")
        wanted = min(self._settings.max_event_bytes, MAX_RECORD_BYTES)
        text = f"max.message.bytes={size}, the largest event is of {wanted} bytes"
        if size < wanted:
            return yellow(
                f"{text}: larger ones are truncated by the gateway",
                self._alter(self._settings.topic, f"max.message.bytes={MAX_RECORD_BYTES}"),
            )
        return green(text)

    def _judge_letter_size(self, source: Mapping[str, str], letters: Mapping[str, str]) -> Seen:
        largest, room = (_number(c, "max.message.bytes") for c in (source, letters))
        if largest is None or room is None:
            return skipped("the configuration of a topic is not to be seen")
        if room < largest:
            return yellow(
                f"max.message.bytes={room}, of the source topic {largest}: larger letters are cut",
                self._alter(self._settings.dlq_topic, f"max.message.bytes={largest}"),
            )
        return green(f"max.message.bytes={room}")

    def _judge_letter_retention(
        self, source: Mapping[str, str], letters: Mapping[str, str]
    ) -> Seen:
        records, kept = (_duration(c, "retention.ms") for c in (source, letters))
        if records is None or kept is None:
            return skipped("the configuration of a topic is not to be seen, or has no bound")
        if kept < records:
            return yellow(
                f"letters are kept for {_days(kept)}, records for {_days(records)}: `pipeline "
                "verify` counts events as lost whose letters are deleted",
                self._alter(self._settings.dlq_topic, f"retention.ms={int(records / _MS)}"),
            )
        return green(f"letters are kept for {_days(kept)}")

    def _judge_rights(self, kind: str) -> Callable[..., Seen]:
        def judge(missing: Mapping[str, Iterable[str]]) -> Seen:
            lacking = {name: sorted(names) for name, names in missing.items() if names}
            if not lacking:
                return green("all that is needed, or the cluster does not tell")
            user = self._settings.admin_properties().get("sasl.username", "NAME")
            (name, operations), *_ = lacking.items()
            texts = [f"{', '.join(names)} on {one}" for one, names in lacking.items()]
            return red(
                f"missing: {'; '.join(texts)}",
                f"kafka-acls.sh --bootstrap-server {self._servers} --add "
                f"--allow-principal User:{user} "
                + " ".join(f"--operation {operation}" for operation in operations)
                + f" --{kind} {name}",
            )

        return judge

    def _judge_group(self, status: Status) -> Seen:
        if status.ok:
            return green(status.verdict)
        is_red = any(p.place.state.is_out_of_range for p in status.partitions) or status.unhealthy
        mend = "pipeline status" if status.members else "pipeline consume"
        return (red if is_red else yellow)(status.verdict, mend)

    def _judge_lag_against_retention(self, status: Status, config: Mapping[str, str]) -> Seen:
        kept, behind = _duration(config, "retention.ms"), status.behind_ms
        if kept is None or behind is None:
            return skipped("retention, or the age of what waits, is not known")
        if behind * _MS < kept * _LAG_SHARE_OF_RETENTION:
            return green(f"the oldest waiting record is {behind / 1000:.0f} s old")
        return red(
            f"the oldest waiting record is {_days(behind * _MS)} old, and deleted after "
            f"{_days(kept)}",
            self._alter(self._settings.topic, f"retention.ms={int(4 * kept / _MS)}"),
        )

    def _judge_offset_retention(self, broker: Mapping[str, str], config: Mapping[str, str]) -> Seen:
        kept, minutes = (
            _duration(config, "retention.ms"),
            _number(broker, "offsets.retention.minutes"),
        )
        if kept is None or minutes is None:
            return skipped("the configuration of the brokers is not to be seen")
        offsets = timedelta(minutes=minutes)
        if offsets < kept:
            return yellow(
                f"offsets of a group that is stopped are kept for {_days(offsets)}, records for "
                f"{_days(kept)}",
                f"set offsets.retention.minutes={int(kept / timedelta(minutes=1))} on the brokers",
            )
        return green(f"kept for {_days(offsets)}")

    def _judge_newest(self, newest_ms: int | None, now_ms: int) -> Seen:
        if newest_ms is None:
            return skipped("the topic has no record")
        ahead = (newest_ms - now_ms) * _MS
        if ahead > _MAX_FUTURE:
            return yellow(
                f"a record is {ahead.total_seconds():.0f} s ahead of this host's clock",
                "set the clocks of gateways and of this host (chronyc tracking)",
            )
        return green(f"the newest record is {max(0, -ahead.total_seconds()):.0f} s old")


def _number(config: Mapping[str, Any], key: str) -> int | None:
    try:
        return int(config[key])
    except (KeyError, ValueError):
        return None


def _duration(config: Mapping[str, str], key: str) -> timedelta | None:
    """Return a duration in milliseconds; None where there is none, or no bound."""
    number = _number(config, key)
    return None if number is None or number < 0 else number * _MS


def _days(duration: timedelta) -> str:
    hours = duration / timedelta(hours=1)
    if hours < 1:
        return f"{duration.total_seconds():.0f} s"
    return f"{hours:.3g} hours" if hours < 48 else f"{hours / 24:.3g} days"  # noqa: PLR2004
