"""Owns the certificates of a stack: one authority, and what it has issued, as PEM files.

A server is given its certificate and key in one file or in two: Kafka reads the first form,
Elasticsearch the second. Keys are PKCS#8, because Kafka reads no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmlog_local.errors import MISSING_EXTRA, LocalUsageError
from llmlog_local.ports import HOST

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

_HOSTS = (HOST, "localhost")
_PRIVATE = 0o600


@dataclass(frozen=True)
class Certificate:
    """A certificate in its files.

    Attributes:
        certificate: with the chain up to the authority.
        key: PKCS#8, without a password.
        both: the key, then the certificate.
    """

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Issues certificates; a folder that has been used before keeps its authority.

    Args:
        folder: of all files; `ca.pem` is what clients trust.

    Raises:
        LocalUsageError: the extra is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import trustme  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise LocalUsageError(MISSING_EXTRA) from error
        self._folder = folder
        self.ca_file = folder / "ca.pem"
        key_file = folder / "ca.key"
        folder.mkdir(parents=True, exist_ok=True)
        if key_file.exists() and self.ca_file.exists():
            self._ca = trustme.CA.from_pem(self.ca_file.read_bytes(), key_file.read_bytes())
        else:
            self._ca = trustme.CA(organization_name="llmlog local stack")
            _write(key_file, self._ca.private_key_pem.bytes())
            _write(self.ca_file, self._ca.cert_pem.bytes())

    def issue(self, name: str, *, not_after: datetime | None = None) -> Certificate:
        """Issue a certificate, for a server on this machine and for a client; write its files.

        Args:
            name: of the files, and the common name.
            not_after: its end; by default years from now.
        """
        issued = self._ca.issue_cert(*_HOSTS, common_name=name, not_after=not_after)
        key = _as_pkcs8(issued.private_key_pem.bytes())
        chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
        found = self._files(name)
        _write(found.key, key)
        _write(found.certificate, chain)
        _write(found.both, key + chain)
        return found

    def get(self, name: str) -> Certificate:
        """Return the certificate of this name, issued before or now."""
        found = self._files(name)
        return found if found.both.exists() else self.issue(name)

    def _files(self, name: str) -> Certificate:
        paths = (self._folder / f"{name}.{kind}" for kind in ("crt", "key", "pem"))
        return Certificate(*paths)


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step, as those do who rotate certificates."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.chmod(_PRIVATE)
    new.replace(path)


def _as_pkcs8(key: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - an extra

    return serialization.load_pem_private_key(key, password=None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
