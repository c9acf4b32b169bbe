"""In a container an address that is not set is an error, and not the container itself."""

import pytest

from llmlog_common.errors import ConfigurationError
from llmlog_common.kafka_clients import admin_config, consumer_config, producer_config
from llmlog_common.settings import load, read_again
from llmlog_consumer.elasticsearch.addresses import read_addresses

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
CLIENTS = [producer_config, consumer_config, admin_config]


@pytest.mark.parametrize("config", CLIENTS)
def test_a_client_of_kafka_needs_the_brokers(config):
    with pytest.raises(ConfigurationError, match="LLMLOG_KAFKA_BOOTSTRAP_SERVERS is not set"):
        config(load(environ=POD))
    with pytest.raises(ConfigurationError, match="would be the container itself"):
        config(read_again(load(environ=POD), "kafka_"))


@pytest.mark.parametrize("config", CLIENTS)
@pytest.mark.parametrize("value", ["kafka:9092", "localhost:9092"])
def test_an_address_that_is_set_is_used(config, value):
    settings = load(environ={**POD, "LLMLOG_KAFKA_BOOTSTRAP_SERVERS": value})
    assert config(settings)["bootstrap.servers"] == value


def test_elasticsearch_needs_its_url_or_a_cloud_id():
    with pytest.raises(ConfigurationError, match="LLMLOG_ELASTICSEARCH_URL is not set"):
        read_addresses(load(environ=POD))
    cloud = {**POD, "LLMLOG_ELASTICSEARCH_CLOUD_ID": "x:MTo5MjQzJDEyNy4wLjA="}
    assert read_addresses(load(environ=cloud))


def test_elsewhere_the_defaults_are_used():
    assert producer_config(load(environ={}))["bootstrap.servers"] == "localhost:9092"
    assert str(read_addresses(load(environ={}))[0]) == "http://localhost:9200"
