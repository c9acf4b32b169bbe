"""Settings: where they come from, which one wins, what is refused and in which words."""

import pickle
from datetime import timedelta

import pytest
from confluent_kafka import Consumer, Producer

from llmlog_common.errors import ConfigurationError
from llmlog_common.kafka_clients import consumer_config, new_client, producer_config
from llmlog_common.settings import REFUSED, Settings, describe, load, read_again
from llmlog_common.units import format_duration, parse_bytes, parse_duration
from llmlog_consumer.kafka.admin import KafkaAdmin

SECRET = "Hunter2-do-not-print"


def write(path, text):
    path.write_text(text)
    return path


def refusal(**arguments):
    """Return the one line with which `load` refuses."""
    with pytest.raises(ConfigurationError) as caught:
        load(**{"environ": {}, **arguments})
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """No `pipeline.toml` of the folder that the tests run in."""
    monkeypatch.chdir(tmp_path)


def test_defaults_need_neither_file_nor_environment():
    settings = load(environ={})
    assert settings.kafka_bootstrap_servers == "localhost:9092"
    assert settings.topic == settings.index == "litellm-logs"
    assert settings.producer_properties() == {"bootstrap.servers": "localhost:9092"}
    assert settings.max_event_age == timedelta(days=400)


def test_the_file_in_the_working_folder_is_read(tmp_path):
    write(tmp_path / "pipeline.toml", 'topic = "from-file"\n')
    assert load(environ={}).topic == "from-file"


def test_the_environment_wins_over_the_file(tmp_path):
    config = write(tmp_path / "c.toml", 'topic = "from-file"\ngroup = "from-file"\n')
    settings = load(environ={"LLMLOG_TOPIC": "from-env"}, config=config)
    assert (settings.topic, settings.group) == ("from-env", "from-file")


def test_the_process_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("LLMLOG_GROUP", "of-the-process")
    assert load().group == "of-the-process"


def test_tables_join_their_name_to_their_keys(tmp_path):
    config = write(
        tmp_path / "c.toml",
        '[kafka]\nbootstrap_servers = "k:1"\nsecurity_protocol = "SASL_SSL"\n'
        '"ssl.ca.location" = "/ca.pem"\n'
        "[kafka.producer]\nlinger_ms = 20\n[kafka.consumer]\nsession_timeout_ms = 7000\n"
        '[elasticsearch]\nurl = "http://e:9200"\n',
    )
    settings = load(environ={}, config=config)
    shared = {
        "bootstrap.servers": "k:1",
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": "/ca.pem",
    }
    assert settings.elasticsearch_url == "http://e:9200"
    assert settings.producer_properties() == {**shared, "linger.ms": "20"}
    assert settings.consumer_properties() == {**shared, "session.timeout.ms": "7000"}
    assert settings.admin_properties() == shared


def test_kafka_properties_of_the_environment_go_to_their_client():
    settings = load(
        environ={
            "LLMLOG_KAFKA_SASL_MECHANISM": "PLAIN",
            "LLMLOG_KAFKA_PRODUCER_LINGER_MS": "7",
            "LLMLOG_KAFKA_CONSUMER_FETCH_MIN_BYTES": "9",
        }
    )
    assert settings.admin_properties()["sasl.mechanism"] == "PLAIN"
    assert settings.producer_properties()["linger.ms"] == "7"
    assert "linger.ms" not in settings.consumer_properties()
    assert settings.consumer_properties()["fetch.min.bytes"] == "9"
    assert "fetch.min.bytes" not in settings.producer_properties()


def test_a_property_of_one_kind_of_client_wins_over_the_shared_one():
    settings = load(
        environ={
            "LLMLOG_KAFKA_CLIENT_RACK": "shared",
            "LLMLOG_KAFKA_CONSUMER_CLIENT_RACK": "mine",
        }
    )
    assert settings.consumer_properties()["client.rack"] == "mine"
    assert settings.producer_properties()["client.rack"] == "shared"


def test_the_environment_wins_over_the_file_for_kafka_properties_too(tmp_path):
    config = write(tmp_path / "c.toml", '[kafka]\nsasl_username = "file"\n')
    settings = load(environ={"LLMLOG_KAFKA_SASL_USERNAME": "env"}, config=config)
    assert settings.admin_properties()["sasl.username"] == "env"


@pytest.mark.parametrize("name", ["LLMLOG_KAFKA_SASL_PASSWORD", "LLMLOG_ELASTICSEARCH_API_KEY"])
def test_a_secret_is_read_from_a_file(tmp_path, name):
    path = write(tmp_path / "secret", SECRET + "\n")
    settings = load(environ={f"{name}_FILE": str(path)})
    if "KAFKA" in name:
        assert settings.producer_properties()["sasl.password"] == SECRET
    else:
        assert settings.elasticsearch_api_key.get_secret_value() == SECRET


def test_a_secret_file_that_is_not_there_names_the_variable(tmp_path):
    missing = str(tmp_path / "missing")
    text = refusal(environ={"LLMLOG_ELASTICSEARCH_API_KEY_FILE": missing})
    assert text.startswith("environment: LLMLOG_ELASTICSEARCH_API_KEY_FILE: cannot read")


def test_a_value_in_the_place_of_a_file_name_is_not_printed():
    text = refusal(environ={"LLMLOG_ELASTICSEARCH_API_KEY_FILE": SECRET})
    assert SECRET not in text
    assert "No such file" in text


def test_librdkafka_properties_that_end_in_file_are_not_read():
    name = "LLMLOG_KAFKA_SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_FILE"
    properties = load(environ={name: "/key.pem"}).admin_properties()
    assert properties["sasl.oauthbearer.assertion.private.key.file"] == "/key.pem"


@pytest.mark.parametrize("given", [{"error_cb": "x"}, {"no.such": "1"}, {"linger.ms": "soon"}])
def test_a_property_that_the_kafka_client_refuses_is_a_wrong_setting(given):
    with pytest.raises(ConfigurationError, match="Kafka settings"):
        new_client(Producer, given)


@pytest.mark.parametrize("kind", ["ca", "certificate", "key"])
def test_a_file_of_tls_that_is_not_there_is_named_and_its_value_is_not_shown(kind, tmp_path):
    given = {"security.protocol": "ssl", f"ssl.{kind}.location": str(tmp_path / SECRET)}
    with pytest.raises(ConfigurationError, match="No such file") as raised:
        new_client(Producer, given)
    assert f"LLMLOG_KAFKA_SSL_{kind.upper()}_LOCATION" in str(raised.value)
    assert SECRET not in str(raised.value)


def test_a_secret_in_a_file_can_be_named_in_the_config(tmp_path):
    path = write(tmp_path / "secret", SECRET)
    config = write(tmp_path / "c.toml", f'[kafka]\nsasl_password_file = "{path}"\n')
    assert load(environ={}, config=config).admin_properties()["sasl.password"] == SECRET


def test_secrets_are_not_in_the_representation():
    settings = load(
        environ={
            "LLMLOG_ELASTICSEARCH_API_KEY": SECRET + "1",
            "LLMLOG_SCHEMA_REGISTRY_USERNAME": "me",
            "LLMLOG_SCHEMA_REGISTRY_PASSWORD": SECRET + "2",
            "LLMLOG_KAFKA_SASL_PASSWORD": SECRET + "3",
            "LLMLOG_KAFKA_PRODUCER_SSL_KEY_PASSWORD": SECRET + "4",
            "LLMLOG_KAFKA_CONSUMER_SSL_KEY_PASSWORD": SECRET + "5",
            "LLMLOG_ELASTICSEARCH_URL": f"https://user:{SECRET}6@host",
            "LLMLOG_SCHEMA_REGISTRY_URL": f"https://user:{SECRET}7@host",
        }
    )
    assert settings.producer_properties()["ssl.key.password"] == SECRET + "4"
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"LLMLOG_TOPICS": SECRET}, "environment: LLMLOG_TOPICS: there is no such setting"),
        ({"LLMLOG_PARTITIONS": SECRET}, "environment: LLMLOG_PARTITIONS: "),
        ({"LLMLOG_PARTITIONS": "9" * 5000}, "environment: LLMLOG_PARTITIONS: "),
        ({"LLMLOG_PARTITIONS": "0"}, "environment: LLMLOG_PARTITIONS: "),
        ({"LLMLOG_SEARCH_TEXT": SECRET}, "environment: LLMLOG_SEARCH_TEXT: "),
        ({"LLMLOG_TOPIC": SECRET + "/"}, "environment: LLMLOG_TOPIC: "),
        ({"LLMLOG_TOPIC": ""}, "environment: LLMLOG_TOPIC: "),
        ({"LLMLOG_INDEX": SECRET}, "environment: LLMLOG_INDEX: "),
        ({"LLMLOG_GROUP": ""}, "environment: LLMLOG_GROUP: "),
        ({"LLMLOG_RETENTION": SECRET}, "environment: LLMLOG_RETENTION: not a duration"),
        ({"LLMLOG_RETENTION": "7 weeks"}, "environment: LLMLOG_RETENTION: not a duration"),
        ({"LLMLOG_RETENTION": "-1"}, "environment: LLMLOG_RETENTION: not a duration"),
        ({"LLMLOG_RETENTION": "0 d"}, "environment: LLMLOG_RETENTION: "),
        ({"LLMLOG_RETENTION": "9" * 20 + "d"}, "environment: LLMLOG_RETENTION: longer than"),
    ],
)
def test_a_bad_variable_is_named_and_its_value_is_not(environ, place):
    text = refusal(environ=environ)
    assert text.startswith(place)
    assert SECRET not in text
    assert "9999" not in text


@pytest.mark.parametrize(
    ("toml", "place"),
    [
        (f'tpoic = "{SECRET}"', "tpoic: there is no such setting"),
        (f'[kafkaa]\nx = "{SECRET}"', "kafkaa.x: there is no such setting"),
        (f'kafka = "{SECRET}"', "kafka: there is no such setting"),
        (f'partitions = "{SECRET}"', "partitions: "),
        (f'topic = ["{SECRET}"]', "topic: "),
        ("retention = inf", "retention: not a duration"),
        ("retention = nan", "retention: "),
        ("retention = true", "retention: "),
        (f'[elasticsearch]\napi_key = ["{SECRET}"]', "elasticsearch.api_key: "),
    ],
)
def test_a_bad_key_of_the_file_is_named_with_its_file(tmp_path, toml, place):
    config = write(tmp_path / "c.toml", toml)
    text = refusal(config=config)
    assert text.startswith(f"{config}: {place}")
    assert SECRET not in text


def test_a_named_file_has_to_exist(tmp_path):
    assert refusal(config=tmp_path / "none.toml").startswith(f"{tmp_path / 'none.toml'}: No such")


@pytest.mark.parametrize("text", [b"topic = ", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_named(tmp_path, text):
    config = tmp_path / "c.toml"
    config.write_bytes(text)
    assert refusal(config=config).startswith(f"{config}: not TOML: ")


REFUSED_PROPERTIES = (
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "check.crcs",
    "acks",
    "enable.idempotence",
    "group.id",
)


@pytest.mark.parametrize("kind", ["KAFKA", "KAFKA_PRODUCER", "KAFKA_CONSUMER"])
@pytest.mark.parametrize("name", REFUSED_PROPERTIES)
def test_a_property_that_voids_the_contract_is_refused_in_the_environment(kind, name):
    variable = f"LLMLOG_{kind}_{name.upper().replace('.', '_')}"
    text = refusal(environ={variable: "whatever"})
    assert text == f"environment: {variable}: {name} cannot be set: {REFUSED[name]}"


@pytest.mark.parametrize("table", ["kafka", "kafka.producer", "kafka.consumer"])
@pytest.mark.parametrize("name", REFUSED_PROPERTIES)
@pytest.mark.parametrize("dotted", [True, False])
def test_a_property_that_voids_the_contract_is_refused_in_the_file(tmp_path, table, name, dotted):
    key = f'"{name}"' if dotted else name.replace(".", "_")
    config = write(tmp_path / "c.toml", f'[{table}]\n{key} = "whatever"\n')
    text = refusal(config=config)
    assert text.startswith(f"{config}: {table}.")
    assert f"{name} cannot be set" in text


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LLMLOG_PIPELINE_SERVICE_HOST", "10.0.0.1"),
        ("LLMLOG_PIPELINE_SERVICE_PORT", "9400"),
        ("LLMLOG_PIPELINE_SERVICE_PORT_METRICS", "9400"),
        ("LLMLOG_PIPELINE_PORT", "tcp://10.0.0.1:9400"),
        ("LLMLOG_PIPELINE_PORT_9400_TCP", "tcp://10.0.0.1:9400"),
        ("LLMLOG_PIPELINE_PORT_9400_TCP_PROTO", "tcp"),
        ("LLMLOG_PIPELINE_PORT_9400_TCP_PORT", "9400"),
        ("LLMLOG_PIPELINE_PORT_9400_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_service_variables_of_kubernetes_are_ignored(variable, value):
    assert load(environ={variable: value}) == load(environ={})


def test_a_port_that_is_no_service_link_is_still_unknown():
    assert "no such setting" in refusal(environ={"LLMLOG_PIPELINE_PORT": "9400"})


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("400 days", timedelta(days=400)),
        ("7d", timedelta(days=7)),
        ("1 day", timedelta(days=1)),
        ("36h", timedelta(hours=36)),
        ("90 s", timedelta(seconds=90)),
        ("1.5 h", timedelta(minutes=90)),
        ("250ms", timedelta(milliseconds=250)),
        (" 5 Minutes ", timedelta(minutes=5)),
    ],
)
def test_durations(text, duration):
    assert load(environ={"LLMLOG_RETENTION": text}).retention == duration


@pytest.mark.parametrize(
    ("text", "shown"), [("400", "`400 days`"), (" 1.5 ", "`1.5 days`"), ("0400", "`0400 days`")]
)
@pytest.mark.parametrize("name", ["MAX_EVENT_AGE", "RETENTION"])
def test_a_number_without_a_unit_is_refused_with_the_setting_and_an_example(name, text, shown):
    text = refusal(environ={f"LLMLOG_{name}": text})
    assert text.startswith(f"environment: LLMLOG_{name}: a number without a unit: write {shown}")


@pytest.mark.parametrize("number", ["3600", "1.5"])
def test_a_number_of_the_file_without_a_unit_is_refused(tmp_path, number):
    config = write(tmp_path / "c.toml", f"max_event_age = {number}\n")
    assert f"c.toml: max_event_age: a number without a unit: write `{number} days`" in refusal(
        environ={}, config=config
    )


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(days=400), "400 days"),
        (timedelta(hours=36), "36 h"),
        (timedelta(minutes=90), "90 min"),
        (timedelta(seconds=90), "90 s"),
        (timedelta(milliseconds=1), "0.001 s"),
    ],
)
def test_a_duration_is_written_as_it_can_be_read(duration, text):
    assert format_duration(duration) == text
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024", 1024),
        ("5 B", 5),
        ("1 KiB", 1024),
        ("2MiB", 2 << 20),
        ("1 GiB", 1 << 30),
        ("500 MB", 500_000_000),
        ("3kb", 3000),
        (" 1 gb ", 10**9),
    ],
)
def test_bytes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "1.5 GiB", "-1", "1 TiB", "GiB", True])
def test_a_value_that_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="not a size"):
        parse_bytes(text)


def test_the_dead_letter_topic_is_named_after_its_source():
    assert load(environ={}).dlq_topic == "litellm-logs.dlq"
    assert load(environ={"LLMLOG_TOPIC": "a"}).dlq_topic == "a.dlq"
    assert load(environ={"LLMLOG_DLQ_TOPIC": ""}).dlq_topic == "litellm-logs.dlq"
    assert load(environ={"LLMLOG_TOPIC": "a", "LLMLOG_DLQ_TOPIC": "b"}).dlq_topic == "b"


def test_dead_letters_never_go_to_their_source():
    assert "have to be different" in refusal(
        environ={"LLMLOG_TOPIC": "same", "LLMLOG_DLQ_TOPIC": "same"}
    )


def test_only_one_way_to_sign_in_can_be_set():
    name = {"LLMLOG_ELASTICSEARCH_USERNAME": "u"}
    password = {"LLMLOG_ELASTICSEARCH_PASSWORD": SECRET}
    key = {"LLMLOG_ELASTICSEARCH_API_KEY": SECRET}
    assert load(environ={**name, **password}).elasticsearch_username == "u"
    assert "or neither" in refusal(environ=name)
    assert "or neither" in refusal(environ=password)
    both = refusal(environ={**name, **password, **key})
    assert "api_key" in both
    assert "username" in both
    assert SECRET not in both


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load(environ={}).topic = "other"


@pytest.mark.parametrize("name", [n for n in Settings.model_fields if not n.startswith("kafka")])
def test_every_described_setting_can_be_set_by_its_name(name):
    assert name in describe()
    try:
        load(environ={f"LLMLOG_{name.upper()}": ""})
    except ConfigurationError as error:
        assert "no such setting" not in str(error)  # noqa: PT017 - most names take an empty text


@pytest.mark.parametrize(
    ("properties", "bytes_"),
    [
        ({}, 1_048_576),
        ({"MESSAGE_MAX_BYTES": "10485760"}, 10_485_760),
        ({"RECEIVE_MESSAGE_MAX_BYTES": "2000000"}, 1_048_576),
        ({"RECEIVE_MESSAGE_MAX_BYTES": "9000000", "MESSAGE_MAX_BYTES": "10485760"}, 10_485_760),
    ],
)
def test_the_bound_of_a_fetch_fits_what_else_is_set(properties, bytes_):
    environ = {f"LLMLOG_KAFKA_{name}": value for name, value in properties.items()}
    config = consumer_config(load(environ=environ))
    assert config["fetch.max.bytes"] == bytes_
    Consumer(config).close()


@pytest.mark.parametrize(
    ("properties", "strategy"),
    [
        ({}, "cooperative-sticky"),
        ({"GROUP_INSTANCE_ID": "host-a"}, "range"),
        (
            {
                "GROUP_INSTANCE_ID": "host-a",
                "PARTITION_ASSIGNMENT_STRATEGY": "cooperative-sticky",
            },
            "range",
        ),
        (
            {"GROUP_INSTANCE_ID": "host-a", "PARTITION_ASSIGNMENT_STRATEGY": "roundrobin"},
            "roundrobin",
        ),
        ({"GROUP_INSTANCE_ID": "host-a", "GROUP_PROTOCOL": "consumer"}, None),
    ],
)
def test_static_members_never_rebalance_cooperatively(properties, strategy):
    environ = {f"LLMLOG_KAFKA_CONSUMER_{name}": value for name, value in properties.items()}
    config = consumer_config(load(environ=environ))
    assert config.get("partition.assignment.strategy") == strategy
    Consumer(config).close()


@pytest.mark.parametrize(
    ("properties", "kbytes"),
    [
        ({}, 65_536),
        ({"QUEUE_BUFFERING_MAX_KBYTES": "1"}, 8_454_144 // 1024 + 1),
        ({"QUEUE_BUFFERING_MAX_KBYTES": "1", "MESSAGE_MAX_BYTES": "1000"}, 1),
        ({"QUEUE_BUFFERING_MAX_KBYTES": "100000"}, 100_000),
        ({"QUEUE_BUFFERING_MAX_KBYTES": "lots"}, "lots"),
    ],
)
def test_the_queue_of_a_producer_has_room_for_a_record(properties, kbytes):
    environ = {f"LLMLOG_KAFKA_PRODUCER_{name}": value for name, value in properties.items()}
    assert producer_config(load(environ=environ))["queue.buffering.max.kbytes"] == kbytes


@pytest.mark.parametrize(
    ("properties", "bytes_"),
    [
        ({}, None),
        ({"RECEIVE_MESSAGE_MAX_BYTES": "1000"}, 8_454_656),
        ({"RECEIVE_MESSAGE_MAX_BYTES": "1512", "MESSAGE_MAX_BYTES": "1000"}, 8_454_656),
        ({"RECEIVE_MESSAGE_MAX_BYTES": "9000000", "FETCH_MAX_BYTES": "20000000"}, 20_000_512),
        ({"RECEIVE_MESSAGE_MAX_BYTES": "90000000"}, 90_000_000),
    ],
)
def test_the_largest_record_can_be_received(properties, bytes_):
    environ = {f"LLMLOG_KAFKA_CONSUMER_{name}": value for name, value in properties.items()}
    config = consumer_config(load(environ=environ))
    assert config.get("receive.message.max.bytes") == bytes_
    Consumer(config).close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA_PRODUCER_RETRIES", "0"),
        ("KAFKA_PRODUCER_MESSAGE_TIMEOUT_MS", "1"),
        ("KAFKA_CONSUMER_SESSION_TIMEOUT_MS", "soon"),
        ("KAFKA_CONSUMER_NO_SUCH_THING", "1"),
    ],
)
def test_a_value_that_librdkafka_refuses_is_a_setting_and_no_crash_of_workers(name, value):
    admin = KafkaAdmin(load(environ={f"LLMLOG_{name}": value}))
    with pytest.raises(ConfigurationError, match="Kafka settings: "):
        admin.require_properties()


def test_librdkafka_accepts_our_own_properties():
    KafkaAdmin(load(environ={})).require_properties()


# Secrets


@pytest.mark.parametrize("space", ["\n", "\r\n", " \t\n"])
@pytest.mark.parametrize("name", ["ELASTICSEARCH_API_KEY", "KAFKA_SASL_PASSWORD", "TOPIC"])
def test_space_around_a_value_is_no_part_of_it(tmp_path, name, space):
    for settings in (
        load(environ={f"LLMLOG_{name}": f"{space}a-secret{space}"}),
        load(environ={f"LLMLOG_{name}_FILE": str(write(tmp_path / "s", f"a-secret{space}"))}),
    ):
        values = {
            "ELASTICSEARCH_API_KEY": settings.elasticsearch_api_key,
            "KAFKA_SASL_PASSWORD": settings.kafka.get("sasl.password"),
            "TOPIC": settings.topic,
        }
        value = values[name]
        assert (value if isinstance(value, str) else value.get_secret_value()) == "a-secret"


@pytest.mark.parametrize(
    "name",
    ["ELASTICSEARCH_API_KEY", "KAFKA_SASL_PASSWORD", "KAFKA_CONSUMER_SASL_PASSWORD", "TOPIC"],
)
def test_a_value_and_its_file_are_refused_together_and_both_are_named(tmp_path, name):
    path = write(tmp_path / "secret", SECRET)
    for order in ((0, 1), (1, 0)):
        pairs = [(f"LLMLOG_{name}", SECRET), (f"LLMLOG_{name}_FILE", str(path))]
        text = refusal(environ=dict(pairs[one] for one in order))
        assert f"environment: LLMLOG_{name} and environment: LLMLOG_{name}_FILE: " in text
        assert SECRET not in text


def test_a_value_and_its_file_are_refused_together_in_the_toml_file_too(tmp_path):
    config = write(
        tmp_path / "c.toml", '[kafka]\n"sasl.password" = "x"\nsasl_password_file = "/x"\n'
    )
    text = refusal(config=config)
    assert f"{config}: kafka.sasl.password and {config}: kafka.sasl_password_file: " in text


def test_either_form_of_the_environment_wins_over_either_form_of_the_file(tmp_path):
    config = write(tmp_path / "c.toml", '[elasticsearch]\napi_key_file = "/not/there"\n')
    settings = load(environ={"LLMLOG_ELASTICSEARCH_API_KEY": "key"}, config=config)
    assert settings.elasticsearch_api_key.get_secret_value() == "key"
    config = write(tmp_path / "c.toml", '[elasticsearch]\napi_key = "key"\n')
    path = write(tmp_path / "secret", "other")
    settings = load(environ={"LLMLOG_ELASTICSEARCH_API_KEY_FILE": str(path)}, config=config)
    assert settings.elasticsearch_api_key.get_secret_value() == "other"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * (1 << 21), "larger than 1 MiB"),
    ],
)
def test_a_file_that_holds_no_value_is_named(tmp_path, content, why):
    path = tmp_path / "secret"
    path.write_bytes(content)
    text = refusal(environ={"LLMLOG_ELASTICSEARCH_API_KEY_FILE": str(path)})
    assert text.startswith("environment: LLMLOG_ELASTICSEARCH_API_KEY_FILE: cannot read that file")
    assert why in text


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("API_KEY", f"{SECRET}\nX: y", "a line feed"),
        ("API_KEY", f"{SECRET} x", "a blank"),
        ("API_KEY", f"{SECRET}é", "not of ASCII"),
        ("BEARER_AUTH", f"{SECRET}\r\nx", "a line feed"),
        ("API_KEY", f"{SECRET}\udcff", "a character that is none"),
        ("PASSWORD", f"{SECRET}\udcff", "a character that is none"),
        ("USERNAME", f"{SECRET}:x", "a colon"),
    ],
)
def test_a_credential_that_cannot_be_sent_is_refused_and_not_shown(name, value, why):
    text = refusal(environ={f"LLMLOG_ELASTICSEARCH_{name}": value})
    assert text.startswith(f"environment: LLMLOG_ELASTICSEARCH_{name}: ")
    assert why in text
    assert SECRET not in text


def test_settings_keep_where_they_came_from_on_their_way_to_a_worker(tmp_path):
    path = write(tmp_path / "secret", "one")
    settings = pickle.loads(
        pickle.dumps(load(environ={"LLMLOG_ELASTICSEARCH_API_KEY_FILE": str(path)}))
    )
    assert settings.files_of("elasticsearch_") == (str(path),)
    assert settings.files_of("kafka_") == ()
    write(path, "two")
    again = read_again(settings, "elasticsearch_")
    assert again.elasticsearch_api_key.get_secret_value() == "two"
    assert again.files_of("elasticsearch_") == (str(path),)
    write(path, "three")
    assert read_again(again, "kafka_").elasticsearch_api_key.get_secret_value() == "two"


def test_credentials_in_the_addresses_of_brokers_are_refused_and_not_shown():
    with pytest.raises(ConfigurationError, match="sasl_username") as error:
        load(environ={"LLMLOG_KAFKA_BOOTSTRAP_SERVERS": "SASL_SSL://u:SECRET@kafka:9092"})
    assert "SECRET" not in str(error.value)
