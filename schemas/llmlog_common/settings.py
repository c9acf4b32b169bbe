"""The settings: their names, defaults and sources, and the properties that are refused.

The environment (`LLMLOG_…`) wins over `pipeline.toml`. In the file, a table's name is joined to its
keys: `[kafka] security_protocol` is `LLMLOG_KAFKA_SECURITY_PROTOCOL`. The suffix `_FILE` reads any
setting from a file. `setting_sources` reads all of these.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PositiveInt,
    PrivateAttr,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from llmlog_common.credentials import basic, remember, why_unsendable
from llmlog_common.errors import ConfigurationError
from llmlog_common.groups import Period, parse_ages, parse_groups
from llmlog_common.kafka_properties import NAMES_A_FILE, REFUSED, is_secret
from llmlog_common.setting_sources import Entry, is_in_container, read_sources, read_value
from llmlog_common.units import parse_bytes, parse_duration, parse_names
from llmlog_common.urls import credentials_in, parse_urls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo

_GIVEN_LATER = ("sasl_username", "sasl_password")
"""Of Kafka's secrets, those that a running client takes."""

Duration = Annotated[timedelta, BeforeValidator(parse_duration), Field(gt=timedelta(0))]
Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]
TopicName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
# Lower case without the characters that Elasticsearch refuses in the name of an index or alias.
AliasName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,200}$")]
KafkaProperties = dict[str, str]
RedactMode = Literal["keep", "mask", "drop"]
Names = Annotated[tuple[str, ...], BeforeValidator(parse_names)]
Groups = Annotated[dict[str, str], BeforeValidator(parse_groups)]
GroupAges = Annotated[dict[str, timedelta], BeforeValidator(parse_ages)]


class Settings(BaseSettings):
    """All settings with their defaults. `load` makes them; they never change."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kafka_bootstrap_servers: str = "localhost:9092"
    kafka: KafkaProperties = Field(default_factory=dict, repr=False)
    kafka_producer: KafkaProperties = Field(default_factory=dict, repr=False)
    kafka_consumer: KafkaProperties = Field(default_factory=dict, repr=False)

    topic: TopicName = "litellm-logs"
    dlq_topic: TopicName = ""
    audit_topic: TopicName = ""
    """Topic that says who opened contents and who replayed dead letters."""
    group: Annotated[str, StringConstraints(min_length=1)] = "llmlog-pipeline"
    partitions: PositiveInt = 12
    replication: PositiveInt | None = None
    retention: Duration = timedelta(days=7)

    elasticsearch_url: str = Field(default="http://localhost:9200", repr=False)
    elasticsearch_api_key: SecretStr | None = None
    elasticsearch_username: str | None = None
    elasticsearch_password: SecretStr | None = None
    elasticsearch_bearer_auth: SecretStr | None = None
    elasticsearch_cloud_id: str | None = None
    elasticsearch_ca_certs: Path | None = None
    elasticsearch_ssl_assert_fingerprint: str | None = None
    elasticsearch_client_cert: Path | None = None
    elasticsearch_client_key: Path | None = None
    elasticsearch_http_proxy: str | None = Field(default=None, repr=False)
    elasticsearch_compress: bool = False
    """Send request bodies as gzip."""
    index: AliasName = "litellm-logs"
    index_period: Period = "day"
    """Time that one index holds. The gateway says it of each event."""
    index_profile: Literal["balanced", "search", "storage"] = "balanced"
    """What indices are made for: `pipeline setup` writes their settings and mapping by it."""
    index_shards: PositiveInt = 1
    """Primary shards of an index."""
    index_groups: Groups = Field(default_factory=dict)
    """Group by team id: the events of a group have indices of their own. The gateway says it."""
    max_event_age: Duration = timedelta(days=400)
    group_max_event_age: GroupAges = Field(default_factory=dict)
    """The same for groups whose events are kept for another time."""
    index_wait: Duration = timedelta(minutes=5)
    """Time for which events wait for an index that takes none and is not the newest."""
    command_patience: Duration = timedelta(seconds=30)
    """How long commands ask an Elasticsearch again that does not answer or says "not now"."""
    ingest_drop: Literal["letter", "drop"] = "letter"
    """A document that an ingest pipeline drops: a dead letter, or an outcome of its own."""
    metrics_port: int = Field(default=0, ge=0, le=65_535)
    """Port of `pipeline consume` for health and metrics; 0: none."""
    log_format: Literal["auto", "console", "logfmt", "json"] = "auto"
    """Of log lines on stderr; `auto` is `console` on a terminal, else `logfmt`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level of log lines; `debug` adds librdkafka's own."""

    schema_registry_url: str | None = Field(default=None, repr=False)
    schema_registry_username: str | None = None
    schema_registry_password: SecretStr | None = None
    schema_registry_ca_certs: Path | None = None
    schema_registry_client_cert: Path | None = None
    schema_registry_client_key: Path | None = None

    journal: Literal["spill", "always", "off"] = "spill"
    """Events that the gateway writes to disk: those Kafka cannot take at once, all, or none."""
    journal_dir: Path | None = None
    """Default: `llmlog-pipeline/journal` in the user's state folder."""
    journal_max_bytes: Bytes = 1 << 30

    redact_messages: RedactMode = "keep"
    redact_response: RedactMode = "keep"
    redact_error_str: RedactMode | None = None
    """Default: the stricter of messages and response; provider errors repeat prompts."""
    redact_error_information: RedactMode | None = None
    redact_fields: Names = ()
    """Dotted paths into the payload; `*` matches any one key or list position."""
    redact_keys: Names = ()
    """Keys or headers that are hidden wherever they are, in any case."""
    redact_rules: Names = ()
    """A mode for all four fields by team, key, tag or header: `team:payments=drop`."""
    redact_secrets: bool = True
    """Replace values that look like secrets, by their name or their form, anywhere."""
    redact_function: str | None = None
    """`package.module.function`, called with each payload; returns the payload to keep."""

    keep_binary: bool = False
    """Keep base64 audio and images, `data:` URIs and embedding vectors whole."""
    max_field_bytes: Bytes = 2 * 1024 * 1024
    """Characters of one text that are kept, from its beginning."""
    max_event_bytes: Bytes = 8 * 1024 * 1024
    """The largest event; the topic's `max.message.bytes` bounds it too."""

    gateway_metrics: bool = True
    """Add our counters to the gateway's Prometheus registry, where it has one."""

    search_text: bool = True
    """Extract the text of prompt and answer into fields for full-text search."""
    model_map_information: bool = False
    """Keep LiteLLM's price table entry of the model (8.6 KB an event)."""

    _entries: dict[str, tuple[Entry, object]] = PrivateAttr(default_factory=dict)
    _is_in_container: bool = PrivateAttr(default=False)

    @field_validator("elasticsearch_api_key", "elasticsearch_bearer_auth")
    @classmethod
    def _check_header(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and (why := why_unsendable(secret.get_secret_value())):
            raise ValueError(f"it cannot be sent: {why}")
        return secret

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _check_brokers(cls, brokers: str) -> str:
        if "@" in brokers:  # the addresses stand in messages
            raise ValueError(
                "brokers are host:port; user and password are kafka.sasl_username and "
                "kafka.sasl_password"
            )
        return brokers

    @field_validator("elasticsearch_http_proxy")
    @classmethod
    def _check_proxy(cls, url: str | None) -> str | None:
        if url is not None and len(parse_urls(url)) != 1:
            raise ValueError("it is one URL: http://proxy:3128")
        return url

    @field_validator("elasticsearch_username", "schema_registry_username")
    @classmethod
    def _check_username(cls, name: str | None) -> str | None:
        if name is not None and ":" in name:
            raise ValueError("a user name with a colon cannot be sent")
        return name

    @model_validator(mode="before")
    @classmethod
    def _default_topics(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name, ending in (("dlq_topic", "dlq"), ("audit_topic", "audit")):
            if not values.get(name):
                values[name] = f"{values.get('topic') or 'litellm-logs'}.{ending}"
        return values

    @model_validator(mode="after")
    def _check_combinations(self) -> Settings:
        if self.dlq_topic == self.topic:
            raise ValueError("dlq_topic and topic have to be different")
        if self.audit_topic in {self.topic, self.dlq_topic}:
            raise ValueError("audit_topic has to be another topic than topic and dlq_topic")
        for server in ("elasticsearch", "schema_registry"):
            pair = [f"{server}_username", f"{server}_password"]
            if len({getattr(self, name) is None for name in pair}) > 1:
                raise ValueError(f"set both {' and '.join(pair)}, or neither")
            if getattr(self, f"{server}_client_key") and not getattr(self, f"{server}_client_cert"):
                raise ValueError(f"{server}_client_key needs {server}_client_cert")
        ways = [
            name
            for name in ("api_key", "username", "bearer_auth")
            if getattr(self, f"elasticsearch_{name}") is not None
        ]
        if len(ways) > 1:
            raise ValueError(f"elasticsearch: set one of {' and '.join(ways)}, not both")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the values that `load` passes: it remembers the place of each."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that a setting names, sorted; there may be events of others."""
        return tuple(sorted({*self.index_groups.values(), *self.group_max_event_age}))

    def max_age_of(self, group: str) -> timedelta:
        """Return the age above which an event of this group is expired."""
        return self.group_max_event_age.get(group, self.max_event_age)

    @property
    def values(self) -> Mapping[str, object]:
        """What was set, by name, as it was read."""
        return {name: value for name, (_, value) in self._entries.items()}

    def names_in_files(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the settings with this prefix that were read from files."""
        return tuple(
            name
            for name, (entry, _) in self._entries.items()
            if name.startswith(prefix) and entry.in_file
        )

    def files_of(self, prefix: str) -> tuple[str, ...]:
        """Return the paths of the files that settings with this prefix were read from."""
        return tuple(str(self._entries[name][0].value) for name in self.names_in_files(prefix))

    def files_read_once(self, prefix: str) -> tuple[Path, ...]:
        """Return the files with this prefix that a client reads once, when it is made.

        Of certificates and keys; of Kafka's secrets those that a client cannot be given later.
        """
        fields = (
            getattr(self, name) for name in type(self).model_fields if name.startswith(prefix)
        )
        properties = (
            (self.kafka, self.kafka_producer, self.kafka_consumer) if prefix == "kafka_" else ()
        )
        of_kafka = (
            Path(path) for one in properties for name, path in one.items() if name in NAMES_A_FILE
        )
        secrets = (
            Path(str(self._entries[name][0].value))
            for name in self.names_in_files("kafka_")
            if prefix == "kafka_" and not name.endswith(_GIVEN_LATER)
        )
        return (*(value for value in fields if isinstance(value, Path)), *of_kafka, *secrets)

    def require_address(self, name: str) -> None:
        """Check that a container's settings name a server: there, `localhost` is no machine.

        Raises:
            ConfigurationError: they do not.
        """
        if self._is_in_container and name not in self._entries:
            raise ConfigurationError(
                f"LLMLOG_{name.upper()} is not set: in a container its default, "
                f"{type(self).model_fields[name].default}, would be the container itself"
            )

    def secrets(self) -> Iterator[str]:
        """Yield each value that no message may show, in each form in which it is sent."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                yield value.get_secret_value()
        for server in ("elasticsearch", "schema_registry"):
            username = getattr(self, f"{server}_username")
            password = getattr(self, f"{server}_password")
            if username and password:
                yield basic(username, password.get_secret_value())
        for url in (
            self.elasticsearch_url, self.elasticsearch_http_proxy, self.schema_registry_url
        ):  # fmt: skip
            for name, word in credentials_in(url or ""):
                yield from (word or name, basic(name, word))
        for properties in (self.kafka, self.kafka_producer, self.kafka_consumer):
            for name, value in properties.items():
                if is_secret(name):
                    yield value

    def producer_properties(self) -> dict[str, str]:
        """Return the librdkafka properties that users set for producers."""
        return self._properties(self.kafka_producer)

    def consumer_properties(self) -> dict[str, str]:
        """Return the librdkafka properties that users set for consumers."""
        return self._properties(self.kafka_consumer)

    def admin_properties(self) -> dict[str, str]:
        """Return the librdkafka properties that users set for every client."""
        return self._properties({})

    def _properties(self, of_client: Mapping[str, str]) -> dict[str, str]:
        self.require_address("kafka_bootstrap_servers")
        return {"bootstrap.servers": self.kafka_bootstrap_servers, **self.kafka, **of_client}


def load(*, environ: Mapping[str, str] | None = None, config: Path | None = None) -> Settings:
    """Read and check the settings.

    Args:
        environ: of the process by default.
        config: a TOML file, which has to exist; by default `pipeline.toml` where there is one.

    Raises:
        ConfigurationError: one line that names the setting and its place.
    """
    sources = read_sources(os.environ if environ is None else environ, config)
    entries = {name: (entry, read_value(entry)) for name, entry in sources.items()}
    return _make(entries, in_container=is_in_container(environ))


def read_again(settings: Settings, prefix: str) -> Settings:
    """Return the settings with the present values of the files that they were read from.

    Args:
        settings: as loaded.
        prefix: of the names whose files are read; the others keep their values.

    Raises:
        ConfigurationError: a file cannot be read now, or its content cannot be used.
    """
    return _make(
        {
            name: (entry, read_value(entry) if name.startswith(prefix) else kept)
            for name, (entry, kept) in settings._entries.items()  # noqa: SLF001 - of our own class
        },
        in_container=settings._is_in_container,  # noqa: SLF001
    )


def _make(entries: dict[str, tuple[Entry, object]], *, in_container: bool) -> Settings:
    places: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, (entry, value) in entries.items():
        _add(values, places, name, entry.place, value)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigurationError(_describe_error(error, places)) from None
    settings._entries = entries  # noqa: SLF001
    settings._is_in_container = in_container  # noqa: SLF001
    remember(settings.secrets())
    return settings


def _add(
    values: dict[str, Any], places: dict[str, str], name: str, place: str, value: object
) -> None:
    """Add one setting to its field, a librdkafka property to the dictionary of its clients."""
    if name in Settings.model_fields and name not in ("kafka", "kafka_producer", "kafka_consumer"):
        values[name], places[name] = value, place
        return
    for field in ("kafka_producer", "kafka_consumer", "kafka"):
        if name.startswith(f"{field}_"):
            key = name.removeprefix(f"{field}_").replace("_", ".")
            if key in REFUSED:
                raise ConfigurationError(f"{place}: {key} cannot be set: {REFUSED[key]}")
            text = str(value).lower() if isinstance(value, bool) else str(value)
            values.setdefault(field, {})[key] = text
            return
    raise ConfigurationError(f"{place}: there is no such setting")


def _describe_error(error: ValidationError, places: Mapping[str, str]) -> str:
    """Return the first problem in one line, without the value, which may be a secret."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    message = str(first["msg"]).removeprefix("Value error, ")
    if not name:
        return message
    return f"{places.get(name, name)}: {message}"


def describe() -> dict[str, FieldInfo]:
    """Return every field of `Settings`, for the reference in the documentation."""
    return dict(Settings.model_fields)
