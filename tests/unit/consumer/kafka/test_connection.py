"""A connection to Kafka whose certificate changes while it is used."""

from llmlog_common.settings import load
from llmlog_consumer.kafka.connection import KafkaConnection


def test_a_certificate_of_which_no_client_can_be_made_for_a_moment_is_used_later(tmp_path):
    file = tmp_path / "ca.pem"
    file.write_text("old")
    faults = [None, ValueError("too many open files"), None]

    class FakeClient:
        def __init__(self, _config, logger=None):
            if fault := faults.pop(0):
                raise fault
            self.made_of = file.read_text()

        def list_topics(self, timeout):
            return self.made_of

    settings = load(environ={"LLMLOG_KAFKA_SSL_CA_LOCATION": str(file)})
    connection = KafkaConnection(settings, FakeClient)
    file.write_text("new")
    assert [connection.list_topics() for _ in range(3)] == ["old", "new", "new"]
    assert not faults
