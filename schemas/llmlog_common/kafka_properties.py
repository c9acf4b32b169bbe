"""Owns what is known of librdkafka properties: refused ones, secret ones, files. Pure."""

from __future__ import annotations

from typing import Final

REFUSED: Final = {
    "enable.auto.commit": "offsets are committed when their records are settled, not by a timer",
    "enable.auto.offset.store": "offsets are committed when their records are settled",
    "auto.offset.reset": "use `pipeline consume --from earliest|latest`",
    "check.crcs": "the pipeline checks every batch, so that a damaged one is not read as records",
    "acks": "an event counts as sent when every in-sync replica has it",
    "request.required.acks": "an event counts as sent when every in-sync replica has it",
    "enable.idempotence": "without it a retry doubles events on the topic",
    "delivery.report.only.error": "the producer would wait without end for events not reported",
    "transactional.id": "events are sent without transactions",
    "group.id": "use LLMLOG_GROUP",
    "bootstrap.servers": "use LLMLOG_KAFKA_BOOTSTRAP_SERVERS",
    "metadata.broker.list": "use LLMLOG_KAFKA_BOOTSTRAP_SERVERS",
}
"""Properties that would void the delivery contract, or that have a setting of their own."""

_SECRET_PARTS: Final = ("password", "secret", "token", "jaas", "key.pem", "oauthbearer.config")
"""Parts of the names of properties whose values are secret."""

NAMES_A_FILE: Final = frozenset(
    {
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.crl.location",
        "ssl.key.location",
        "ssl.keystore.location",
        "sasl.kerberos.keytab",
        "sasl.oauthbearer.assertion.file",
        "sasl.oauthbearer.assertion.jwt.template.file",
        "sasl.oauthbearer.assertion.private.key.file",
        "https.ca.location",
    }
)
"""Properties whose value is the path of a file that a client reads once, when it is made."""


def is_secret(name: str) -> bool:
    """Tell whether the value of a property is secret, by its name."""
    return any(part in name for part in _SECRET_PARTS)
