"""The one list of settings: names, defaults, where they come from, what is refused.

The environment (`LLMLOG_…`) wins over `pipeline.toml`.
A table in the file joins its name to its keys (`[kafka] security_protocol` is
`LLMLOG_KAFKA_SECURITY_PROTOCOL`). Any setting can be read from a file by the suffix `_FILE`.
"""

from __future__ import annotations

import os
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PositiveInt,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from llmlog_common.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo

PREFIX: Final = "LLMLOG_"
CONFIG_FILE: Final = "pipeline.toml"

# librdkafka properties that would void the delivery contract, or that have a setting of their own.
REFUSED: Final = {
    "enable.auto.commit": "offsets are committed when their records are settled, not by a timer",
    "enable.auto.offset.store": "offsets are committed when their records are settled",
    "auto.offset.reset": "use `pipeline consume --from earliest|latest`",
    "acks": "an event counts as sent when every in-sync replica has it",
    "request.required.acks": "an event counts as sent when every in-sync replica has it",
    "enable.idempotence": "without it a retry doubles events on the topic",
    "delivery.report.only.error": "an event that is not reported is waited for without end",
    "transactional.id": "events are sent without transactions",
    "group.id": "use LLMLOG_GROUP",
    "bootstrap.servers": "use LLMLOG_KAFKA_BOOTSTRAP_SERVERS",
    "metadata.broker.list": "use LLMLOG_KAFKA_BOOTSTRAP_SERVERS",
}

# What Kubernetes puts into every pod for a service whose name begins with `llmlog`.
_SERVICE_LINK: Final = re.compile(
    r"_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$"
)
_SERVICE_URL: Final = re.compile(r"(tcp|udp|sctp)://")

# Properties of librdkafka that name a file themselves.
_NAMES_A_FILE: Final = re.compile(
    r"kafka_(producer_|consumer_)?sasl_oauthbearer_assertion_((private_key|jwt_template)_)?file"
)

_DURATION: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*")
_UNITS: Final = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("", "s", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_BYTES: Final = re.compile(r"\s*(\d+)\s*(|b|kib|mib|gib|kb|mb|gb)\s*", re.IGNORECASE)
_SIZES: Final = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
                 "kb": 10**3, "mb": 10**6, "gb": 10**9}  # fmt: skip


def parse_duration(value: object) -> object:
    """Read `400 days`, `7d`, `90 s` or a bare number of seconds; leave the rest to the type."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _seconds(value)
    if not isinstance(value, (str, bool)):
        return value
    match = _DURATION.fullmatch(str(value).lower())
    if match is None or match[2] not in _UNITS:
        raise ValueError("not a duration: write a number and a unit, as in `7 days` or `90 s`")
    return _seconds(float(match[1]) * _UNITS[match[2]])


def _seconds(number: float) -> timedelta:
    try:
        return timedelta(seconds=number)
    except OverflowError:
        raise ValueError("longer than a duration can be") from None


def parse_bytes(value: object) -> object:
    """Read `1 GiB`, `500 MB` or a bare number of bytes; leave the rest to the type."""
    if not isinstance(value, (str, bool)):
        return value
    match = _BYTES.fullmatch(str(value))
    if match is None:
        raise ValueError("not a size: write a number and a unit, as in `1 GiB`")
    return int(match[1]) * _SIZES[match[2].lower()]


def parse_names(value: object) -> object:
    """Read `a, b.c`; leave the rest, such as a list in the file, to the type."""
    if not isinstance(value, str):
        return value
    return tuple(name.strip() for name in value.split(",") if name.strip())


Duration = Annotated[timedelta, BeforeValidator(parse_duration), Field(gt=timedelta(0))]
Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]
TopicName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
# Lower case without the characters that Elasticsearch refuses in the name of an index or alias.
AliasName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,200}$")]
KafkaProperties = dict[str, str]
RedactMode = Literal["keep", "mask", "drop"]
Names = Annotated[tuple[str, ...], BeforeValidator(parse_names)]


class Settings(BaseSettings):
    """Everything that can be set, with its default; made by `load`, never changed."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kafka_bootstrap_servers: str = "localhost:9092"
    kafka: KafkaProperties = Field(default_factory=dict, repr=False)
    kafka_producer: KafkaProperties = Field(default_factory=dict, repr=False)
    kafka_consumer: KafkaProperties = Field(default_factory=dict, repr=False)

    topic: TopicName = "litellm-logs"
    dlq_topic: TopicName = ""
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
    index: AliasName = "litellm-logs"
    max_event_age: Duration = timedelta(days=400)
    metrics_port: int = Field(default=0, ge=0, le=65_535)
    """Port on which `pipeline consume` shows its counts to Prometheus; 0: none."""

    schema_registry_url: str | None = Field(default=None, repr=False)
    schema_registry_username: str | None = None
    schema_registry_password: SecretStr | None = None
    schema_registry_ca_certs: Path | None = None

    journal: Literal["spill", "always", "off"] = "spill"
    """What the gateway writes to disk: what Kafka cannot take at once, every event, nothing."""
    journal_dir: Path | None = None
    """Default: `llmlog-pipeline/journal` in the user's state folder."""
    journal_max_bytes: Bytes = 1 << 30

    redact_messages: RedactMode = "keep"
    redact_response: RedactMode = "keep"
    redact_error_str: RedactMode | None = None
    """Default: the stricter of messages and response; provider errors repeat prompts."""
    redact_error_information: RedactMode | None = None
    redact_fields: Names = ()
    """Dotted paths into the payload; `*` stands for any one key or list position."""
    redact_keys: Names = ()
    """Keys or headers, anywhere, in any case."""
    redact_secrets: bool = True
    """Replace whatever looks like a secret, by its name or its form, anywhere."""
    redact_function: str | None = None
    """`package.module.function`, called with each payload; returns what is to be kept."""

    keep_binary: bool = False
    """Keep base64 audio and images, `data:` URIs and embedding vectors whole."""
    max_field_bytes: Bytes = 2 * 1024 * 1024
    """Characters of any one text that are kept; of a larger one the beginning is."""
    max_event_bytes: Bytes = 8 * 1024 * 1024
    """Bound of an event; the topic's `max.message.bytes` bounds it too."""

    gateway_converter: Literal["process", "thread"] = "process"
    """Who makes events of payloads: a process beside the gateway, or a thread within it."""
    gateway_metrics: bool = True
    """Show the gateway's counters in its own Prometheus registry, where there is one."""

    search_text: bool = True
    """Extract the text of prompt and answer into fields for full-text search."""
    model_map_information: bool = False
    """Keep LiteLLM's price table entry of the model (8.6 KB an event)."""

    @model_validator(mode="before")
    @classmethod
    def _dead_letters_beside_their_source(cls, values: dict[str, Any]) -> dict[str, Any]:
        if not values.get("dlq_topic"):
            values["dlq_topic"] = f"{values.get('topic') or 'litellm-logs'}.dlq"
        return values

    @model_validator(mode="after")
    def _one_way_to_sign_in(self) -> Settings:
        if self.dlq_topic == self.topic:
            raise ValueError("dlq_topic is the source topic itself")
        for server in ("elasticsearch", "schema_registry"):
            pair = [f"{server}_username", f"{server}_password"]
            if len({getattr(self, name) is None for name in pair}) > 1:
                raise ValueError(f"{' and '.join(pair)} go together")
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
        """Read nothing but what `load` hands over: it knows where each value stood."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    def producer_properties(self) -> dict[str, str]:
        """Return the librdkafka properties that users set for producers."""
        return self._properties(self.kafka_producer)

    def consumer_properties(self) -> dict[str, str]:
        """Return the librdkafka properties that users set for consumers."""
        return self._properties(self.kafka_consumer)

    def admin_properties(self) -> dict[str, str]:
        """Return the librdkafka properties that users set for every client."""
        return self._properties({})

    def _properties(self, of_kind: Mapping[str, str]) -> dict[str, str]:
        return {"bootstrap.servers": self.kafka_bootstrap_servers, **self.kafka, **of_kind}


def load(*, environ: Mapping[str, str] | None = None, config: Path | None = None) -> Settings:
    """Gather, check and freeze the settings.

    Args:
        environ: defaults to the process's environment.
        config: a TOML file that has to exist; by default `pipeline.toml` where there is one.

    Raises:
        ConfigurationError: one line that names the setting and its place.
    """
    environ = os.environ if environ is None else environ
    places: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, place, value in (*_of_file(config), *_of_environment(environ)):
        _put(values, places, name, place, value)
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigurationError(_first_line(error, places)) from None


def _of_file(config: Path | None) -> Iterator[tuple[str, str, object]]:
    path = Path(CONFIG_FILE) if config is None else config
    if config is None and not path.is_file():
        return
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from None
    for keys, value in _leaves(tables, ()):
        yield _resolved("_".join(keys), f"{path}: {'.'.join(keys)}", value)


def _leaves(
    table: Mapping[str, Any], above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _of_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, object]]:
    for variable, value in environ.items():
        if not variable.startswith(PREFIX):
            continue
        if _SERVICE_LINK.search(variable) or (
            variable.endswith("_PORT") and _SERVICE_URL.match(value)
        ):
            continue
        yield _resolved(variable.removeprefix(PREFIX).lower(), f"environment: {variable}", value)


def _resolved(name: str, place: str, value: object) -> tuple[str, str, object]:
    """Follow the suffix `_FILE` to the content of the file."""
    if not name.endswith("_file") or _NAMES_A_FILE.fullmatch(name):
        return name, place, value
    try:
        text = Path(str(value)).read_text()
    except OSError as error:  # the value stays out: it may be the secret itself
        raise ConfigurationError(f"{place}: cannot read that file: {error.strerror}") from None
    except ValueError:
        raise ConfigurationError(f"{place}: cannot read that file: not UTF-8") from None
    return name.removesuffix("_file"), place, text.strip()


def _put(
    values: dict[str, Any], places: dict[str, str], name: str, place: str, value: object
) -> None:
    """Sort one setting into its field; a Kafka property into the dictionary of its kind."""
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


def _first_line(error: ValidationError, places: Mapping[str, str]) -> str:
    """Say the first complaint in one line; the value stays out, it may be a secret."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    message = str(first["msg"]).removeprefix("Value error, ")
    if not name:
        return message
    return f"{places.get(name, name)}: {message}"


def describe() -> dict[str, FieldInfo]:
    """Return every field of `Settings`, for the reference in the documentation."""
    return dict(Settings.model_fields)
