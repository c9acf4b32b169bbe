"""The local stack is real servers: data outlives a kill -9, settings reach the node."""

import os
import signal

import psutil
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic
from elasticsearch import ConnectionTimeout, Elasticsearch

from llmlog_local.elasticsearch import ElasticsearchServer
from llmlog_local.errors import ElasticsearchStartError, KafkaStartError
from llmlog_local.kafka import KafkaServer
from llmlog_local.ports import free_ports
from llmlog_local.processes import identify
from llmlog_local.server import tail
from llmlog_local.stack import LocalStack
from llmlog_local.testing import running_servers
from support.pipeline import wait_until

TOPIC = INDEX = "kept"


def stop_process(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)


def write_everywhere(environment):
    bootstrap = {"bootstrap.servers": environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]}
    admin = AdminClient(bootstrap)
    admin.create_topics([NewTopic(TOPIC, 1)])[TOPIC].result(30)
    producer = Producer(bootstrap)
    producer.produce(TOPIC, b"kept")
    assert producer.flush(30) == 0
    with Elasticsearch(environment["LLMLOG_ELASTICSEARCH_URL"], request_timeout=60) as client:
        client.index(index=INDEX, id="1", document={"kept": True})


def assert_everything_is_there(environment):
    consumer = Consumer(
        {
            "bootstrap.servers": environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"],
            "group.id": "reader",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([TOPIC])
    found = consumer.poll(30)
    consumer.close()
    assert found is not None
    assert found.error() is None
    assert found.value() == b"kept"
    with Elasticsearch(environment["LLMLOG_ELASTICSEARCH_URL"], request_timeout=60) as client:
        assert client.get(index=INDEX, id="1")["_source"] == {"kept": True}


@pytest.fixture
def stack(tmp_path):
    stack = LocalStack(tmp_path / "a folder, with a comma")
    yield stack
    stack.down()


def test_a_stack_comes_back_on_the_same_ports_with_its_data_after_kill_9(stack):
    kafka_port, elasticsearch_port = free_ports(2)
    environment = stack.up(kafka_port, elasticsearch_port)
    assert environment == stack.environment()
    assert str(kafka_port) in environment["LLMLOG_KAFKA_BOOTSTRAP_SERVERS"]
    assert str(elasticsearch_port) in environment["LLMLOG_ELASTICSEARCH_URL"]
    write_everywhere(environment)
    kafka, elasticsearch = stack.status()

    assert stack.up() == environment
    assert stack.status() == [kafka, elasticsearch]

    os.kill(kafka.pid, signal.SIGKILL)
    wait_until(lambda: not stack.status()[0].running)
    assert stack.up() == environment
    assert stack.status()[0].pid != kafka.pid
    assert stack.status()[1] == elasticsearch

    os.kill(elasticsearch.pid, signal.SIGKILL)
    wait_until(lambda: not stack.status()[1].running)
    assert stack.up() == environment
    assert_everything_is_there(environment)

    processes = [identify(row.pid) for row in stack.status()]
    assert stack.down() == ["kafka", "elasticsearch"]
    assert not any(process.alive for process in processes)
    assert not any(row.running for row in stack.status())
    assert any("closed" in line for line in tail(stack.log_path("elasticsearch"), 5))
    assert stack.down() == []


def test_settings_properties_and_the_newer_version_reach_the_servers(tmp_path):
    with running_servers(
        tmp_path,
        kafka_properties={"message.max.bytes": "1234"},
        elasticsearch_settings={"thread_pool.write.queue_size": "1"},
        elasticsearch_version="9.5.3",
    ) as servers:
        with Elasticsearch(servers.elasticsearch.url, request_timeout=60) as client:
            assert client.info()["version"]["number"] == "9.5.3"
            (node,) = client.nodes.info(metric="thread_pool")["nodes"].values()
            assert node["thread_pool"]["write"]["queue_size"] == 1

            stop_process(servers.elasticsearch.pid)
            with pytest.raises(ConnectionTimeout):
                client.options(request_timeout=0.5, max_retries=0).info()
            os.kill(servers.elasticsearch.pid, signal.SIGCONT)
            assert client.ping()

        admin = AdminClient({"bootstrap.servers": servers.kafka.bootstrap_servers})
        broker = ConfigResource(ConfigResource.Type.BROKER, "1")
        configuration = admin.describe_configs([broker])[broker].result(30)
        assert configuration["message.max.bytes"].value == "1234"
        assert configuration["auto.create.topics.enable"].value == "false"

        for server in (servers.kafka, servers.elasticsearch):
            stop_process(server.pid)  # must not keep them from ending cleanly
    for server in (servers.kafka, servers.elasticsearch):
        assert not server.running
        assert any("closed" in line or "shut down" in line for line in tail(server.log_path, 3))


def test_a_server_that_cannot_start_says_why_and_where_its_log_is(tmp_path):
    kafka_port, elasticsearch_port = free_ports(2)
    kafka = KafkaServer(tmp_path / "k", kafka_port, properties={"log.retention.ms": "soon"})
    with pytest.raises(KafkaStartError, match=r"kafka ended while it started.*server\.log.*soon"):
        kafka.start()
    elasticsearch = ElasticsearchServer(
        tmp_path / "e", elasticsearch_port, settings={"no.such.setting": "1"}
    )
    with pytest.raises(ElasticsearchStartError, match=r"server\.log.*no\.such\.setting"):
        elasticsearch.start()
    assert not kafka.running
    assert not elasticsearch.running
