"""`pipeline produce` sends what the callback would have sent: redacted, and truncated."""

import json

import orjson
import pytest

from llmlog_common.settings import load
from llmlog_consumer.cli.produce import EventSender
from llmlog_producer.testing import document_of
from llmlog_schemas.codec import Decoder
from support.payloads import payload

BLOB = "A" * 5000


class Sent:
    """A producer that keeps what it is given."""

    def __init__(self):
        self.records = []

    def send(self, _item, topic, value, key):
        self.records.append((topic, key, value))


def send(given, topic_bytes=None, **settings):
    """Return the documents that are sent for payloads."""
    environ = {f"LLMLOG_{name.upper()}": value for name, value in settings.items()}
    sent = Sent()
    sender = EventSender(load(environ=environ), topic_bytes, sent)
    for one in given:
        sender.send(one)
    return [
        {"event_id": key.decode(), **orjson.loads(Decoder().decode(value)["document"])}
        for _, key, value in sent.records
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"redact_messages": "mask"},
        {"redact_keys": "content"},
        {"redact_fields": "metadata.user_api_key_alias"},
        {"redact_rules": "key:key-*=nothing"},
        {"redact_function": "builtins.dict"},
        {"keep_binary": "true"},
        {"max_field_bytes": "1000"},
    ],
)
def test_a_document_is_what_the_callback_would_send(settings):
    given = payload(1) | {"odd": {"api_key": "abc"}, "error_str": f"{BLOB} sk-{'a1B2' * 8}"}
    assert send([given], **settings) == [document_of(given, **settings)]


def test_secrets_and_large_content_do_not_leave():
    secret = f"sk-{'a1B2' * 8}"
    (document,) = send([payload(1) | {"messages": [{"content": secret}, {"data": BLOB}]}])
    assert secret not in json.dumps(document)
    assert document["messages"][1]["data"]["llmlog_cut"]["bytes"] == 3750


def test_an_event_is_truncated_to_what_the_topic_takes():
    large = payload(1) | {"messages": [{"content": "words and " * 20_000}]}
    (document,) = send([large], topic_bytes=20_000)
    assert len(json.dumps(document)) < 20_000


def test_the_cost_of_a_batch_counts_once():
    looks = [payload(seed) | {"call_type": "aretrieve_batch", "id": "batch_1", "response_cost": 0.5}
             for seed in (1, 2)]  # fmt: skip
    assert [document["response_cost"] for document in send(looks)] == [0.5, 0.0]
