"""Owns where settings come from: the environment, the TOML file, and files that hold one value.

The environment (`LLMLOG_…`) wins over the TOML file. A name with the suffix `_FILE` reads its value
from the file that it names; one source may give a setting in one of the two forms only.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llmlog_common.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PREFIX: Final = "LLMLOG_"
CONFIG_FILE: Final = "pipeline.toml"

_FILE_SUFFIX: Final = "_file"
_MAX_FILE_BYTES: Final = 1 << 20

_CONTAINER_MARKS: Final = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""Files that Docker and Podman put into each container."""
_POD_VARIABLE: Final = "KUBERNETES_SERVICE_HOST"

# Variables that Kubernetes sets in every pod for a service whose name begins with `llmlog`.
_SERVICE_LINK: Final = re.compile(
    r"_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]{1,99})?$"
    r"|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$"
)
_SERVICE_URL: Final = re.compile(r"(tcp|udp|sctp)://")

# Properties of librdkafka that name a file themselves.
_NAMES_A_FILE: Final = re.compile(
    r"kafka_(producer_|consumer_)?sasl_oauthbearer_assertion_((private_key|jwt_template)_)?file"
)


def is_in_container(environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether this is a container.

    Args:
        environ: whose variables alone are looked at; by default this process's, and its files.
    """
    if environ is not None:
        return _POD_VARIABLE in environ
    return _POD_VARIABLE in os.environ or any(mark.exists() for mark in _CONTAINER_MARKS)


class Entry(NamedTuple):
    """One setting as a source gives it.

    Attributes:
        name: of the setting, without the suffix `_file`.
        place: the source and its own name for the setting.
        value: as written; the path of a file, where `in_file`.
        in_file: the value is in the file that `value` names.
    """

    name: str
    place: str
    value: object
    in_file: bool = False


def read_sources(environ: Mapping[str, str], config: Path | None) -> dict[str, Entry]:
    """Return what is set, by name; files that hold one value are not read yet.

    Args:
        environ: of the process.
        config: a TOML file, which has to exist; by default `pipeline.toml` where there is one.

    Raises:
        ConfigurationError: the TOML file cannot be read, or a setting is given in both forms.
    """
    return _by_name(_read_toml(config)) | _by_name(_read_environment(environ))


def read_value(entry: Entry) -> object:
    """Return the value of an entry, from its file where it names one, without space around it.

    Raises:
        ConfigurationError: the file cannot be read, or it holds no text; its content is not shown.
    """
    value = _read_file(entry) if entry.in_file else entry.value
    if not isinstance(value, str):
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{entry.place}: it holds a character that is none") from None
    return value.strip()


def _read_file(entry: Entry) -> str:
    complaint = f"{entry.place}: cannot read that file"
    try:
        with Path(str(entry.value)).open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:  # without the value, which may be the secret itself
        raise ConfigurationError(f"{complaint}: {error.strerror}") from None
    except ValueError:  # a path that holds a NUL
        raise ConfigurationError(f"{complaint}: that is no path") from None
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigurationError(f"{complaint}: it is larger than 1 MiB")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{complaint}: not UTF-8") from None
    if not text.strip():
        raise ConfigurationError(f"{complaint}: it is empty")
    return text


def _by_name(entries: Iterable[Entry]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        other = found.get(entry.name)
        if other is not None and other.in_file != entry.in_file:
            first, second = sorted((other, entry), key=lambda one: one.in_file)
            raise ConfigurationError(
                f"{first.place} and {second.place}: set the value or the file that holds it, "
                "not both"
            )
        found[entry.name] = entry
    return found


def _read_toml(config: Path | None) -> Iterator[Entry]:
    path = Path(CONFIG_FILE) if config is None else config
    if config is None and not path.is_file():
        return
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from None
    for keys, value in _flatten(tables, ()):
        yield _entry("_".join(keys).replace(".", "_"), f"{path}: {'.'.join(keys)}", value)


def _flatten(
    table: Mapping[str, Any], above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, (*above, key))
        else:
            yield (*above, key), value


def _read_environment(environ: Mapping[str, str]) -> Iterator[Entry]:
    for variable, value in environ.items():
        if not variable.startswith(PREFIX):
            continue
        if _SERVICE_LINK.search(variable) or (
            variable.endswith("_PORT") and _SERVICE_URL.match(value)
        ):
            continue
        yield _entry(variable.removeprefix(PREFIX).lower(), f"environment: {variable}", value)


def _entry(name: str, place: str, value: object) -> Entry:
    in_file = name.endswith(_FILE_SUFFIX) and not _NAMES_A_FILE.fullmatch(name)
    return Entry(name.removesuffix(_FILE_SUFFIX) if in_file else name, place, value, in_file)
