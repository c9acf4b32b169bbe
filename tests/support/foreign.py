"""Writes what only a foreign client writes: a header whose name is not UTF-8.

python -m support.foreign BOOTSTRAP TOPIC
"""

import ctypes
import sys
from pathlib import Path

import confluent_kafka

_TOPIC, _PARTITION, _VALUE, _FLAGS, _HEADER, _END = 1, 3, 4, 7, 9, 0
_COPY = 2


def send(bootstrap: str, topic: str) -> None:
    """Write one record with such a header, by librdkafka itself."""
    folder = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    library = ctypes.CDLL(str(next(folder.glob("librdkafka-*"))))
    library.rd_kafka_conf_new.restype = library.rd_kafka_new.restype = ctypes.c_void_p
    error, size = ctypes.create_string_buffer(512), ctypes.c_size_t(512)
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap.encode(), error, size)
    client = ctypes.c_void_p(library.rd_kafka_new(0, conf, error, size))
    value = b"no event"
    sent = library.rd_kafka_producev(
        client,
        ctypes.c_int(_TOPIC), ctypes.c_char_p(topic.encode()),
        ctypes.c_int(_PARTITION), ctypes.c_int32(0),
        ctypes.c_int(_VALUE), ctypes.c_char_p(value), ctypes.c_size_t(len(value)),
        ctypes.c_int(_FLAGS), ctypes.c_int(_COPY),
        ctypes.c_int(_HEADER), ctypes.c_char_p(b"caf\xe9"), ctypes.c_char_p(b"x"),
        ctypes.c_ssize_t(1),
        ctypes.c_int(_END),
    )  # fmt: skip
    assert sent == 0
    assert library.rd_kafka_flush(client, 10_000) == 0


if __name__ == "__main__":
    send(*sys.argv[1:])
