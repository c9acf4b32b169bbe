"""A cluster of one broker inside of this process, which answers with errors on demand.

It is librdkafka's own, and takes Kafka's protocol on a port: the clients under test are real.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Final

import confluent_kafka

OFFSET_FETCH: Final = 9
"""Kafka's number of the request for a group's offsets."""
PRODUCE: Final = 0
INIT_PRODUCER_ID: Final = 22


class MockCluster:
    """A broker with one topic.

    Args:
        topic: its name.
        partitions: of the topic.
        brokers: numbered from 1.

    Attributes:
        bootstrap: its address.
    """

    def __init__(self, topic: str, partitions: int, *, brokers: int = 1):
        folder = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
        self._library = library = ctypes.CDLL(str(next(folder.glob("librdkafka*"))))
        pointer, text, short = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int16
        library.rd_kafka_conf_new.restype = pointer
        library.rd_kafka_conf_set.argtypes = [pointer, text, text, text, ctypes.c_size_t]
        library.rd_kafka_new.restype = pointer
        library.rd_kafka_new.argtypes = [ctypes.c_int, pointer, text, ctypes.c_size_t]
        library.rd_kafka_mock_cluster_new.restype = pointer
        library.rd_kafka_mock_cluster_new.argtypes = [pointer, ctypes.c_int]
        library.rd_kafka_mock_cluster_bootstraps.restype = text
        library.rd_kafka_mock_cluster_bootstraps.argtypes = [pointer]
        library.rd_kafka_mock_topic_create.argtypes = [pointer, text, ctypes.c_int, ctypes.c_int]
        library.rd_kafka_mock_push_request_errors_array.argtypes = [
            pointer, short, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int),
        ]  # fmt: skip
        library.rd_kafka_mock_partition_set_leader.argtypes = [
            pointer, text, ctypes.c_int32, ctypes.c_int32,
        ]  # fmt: skip
        library.rd_kafka_mock_broker_set_down.argtypes = [pointer, ctypes.c_int32]
        library.rd_kafka_mock_broker_set_up.argtypes = [pointer, ctypes.c_int32]
        configuration = library.rd_kafka_conf_new()
        library.rd_kafka_conf_set(configuration, b"log_level", b"0", None, 0)
        producer = library.rd_kafka_new(0, configuration, None, 0)
        self._cluster = library.rd_kafka_mock_cluster_new(producer, brokers)
        library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)
        self.bootstrap = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def set_leader(self, topic: str, partition: int, broker: int) -> None:
        """Give a partition a leader."""
        self._library.rd_kafka_mock_partition_set_leader(
            self._cluster, topic.encode(), partition, broker
        )

    def stop(self, broker: int) -> None:
        """Let a broker answer no connection; its partitions keep it as their leader."""
        self._library.rd_kafka_mock_broker_set_down(self._cluster, broker)

    def start(self, broker: int) -> None:
        """Let a broker answer again."""
        self._library.rd_kafka_mock_broker_set_up(self._cluster, broker)

    def answer_with(self, request: int, *codes: int) -> None:
        """Answer the next requests of this number with these errors."""
        numbers = (ctypes.c_int * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, request, len(codes), numbers
        )
