"""The server's certificates: which one a client gets, and how they are read again when they were renewed."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from origin.config import lan_address
from origin.config.errors import CommandError
from origin.config.options import SELF_SIGNED, Config, data_folder
from origin.tls.self_signed import self_signed
from packager.safe_files import DataFolder
from packager.threads import SHARED_THREADS

log = structlog.get_logger()

CHECK_SECONDS = 10.0
"""Pause between two checks of the files for changes."""

MAX_CERTIFICATES = 1000
"""Most certificates of a folder."""

MAX_CERTIFICATE_BYTES = 1 << 20
"""Largest file with a certificate and those that sign it."""

PROTOCOLS = ("h2", "http/1.1")
"""Protocols that are offered in a handshake (RFC 7301)."""

KEY_NAMES = {"fullchain.pem": "privkey.pem", "cert.pem": "key.pem", "tls.crt": "tls.key"}
"""Names of a certificate's file and its key's in a folder of their own, as of certbot and Kubernetes."""


class CertificateError(CommandError):
    """The certificates can't be used; the text is one line that says what to do."""


class CertificateFiles(NamedTuple):
    """The files of a certificate, with those that sign it, and of its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class ServedCertificate:
    """A certificate that clients get.

    Attributes:
        names: host names in lower case, some with ``*`` for their first label (RFC 9525 §6.3).
        fingerprint: SHA-256 of the certificate, as browsers show it.
        ends: the end of its validity.
        pem: the key, the certificate and those that sign it.
    """

    context: ssl.SSLContext
    names: frozenset[str]
    fingerprint: str
    ends: datetime
    pem: bytes = field(repr=False)


class Certificates:
    """The certificates of a server, which are looked at now and then; a service of the server.

    Args:
        certificate: a file, a folder of certificates, or ``self-signed``.
        key: the file of the key; empty where the certificate's file has it or there is a folder.
        kept: folder in which a self-signed certificate is kept; None: it is made anew at each start.
        hosts: names and addresses that a self-signed certificate is for.

    Attributes:
        followers: called whenever certificates have been read again.

    Raises:
        CertificateError: there is none that can be used.
    """

    name = "certificates"

    def __init__(self, certificate: str, key: str, kept: DataFolder | None, hosts: Sequence[str]) -> None:
        self._certificate, self._key, self._kept, self._hosts = certificate, key, kept, hosts
        self.followers: list[Callable[[], None]] = []
        self._seen = self._look()
        self._served = self._load()
        self._by_name = _by_name(self._served)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate that clients get who name no host."""
        return self._served[0].fingerprint

    @property
    def ends(self) -> datetime:
        """The end of the validity of the certificate that ends first."""
        return min(one.ends for one in self._served)

    @property
    def is_self_signed(self) -> bool:
        """Whether browsers ask before they trust it."""
        return self._certificate == SELF_SIGNED

    @property
    def pem(self) -> bytes:
        """The key, the certificate and those that sign it, of the certificate for who names no host."""
        return self._served[0].pem

    @property
    def pems(self) -> tuple[bytes, ...]:
        """The key, the certificate and those that sign it, of each; first that for who names no host."""
        return tuple(one.pem for one in self._served)

    def pem_for(self, host: str) -> bytes:
        """Return the key, the certificate and those that sign it, for a client that asks for a host name."""
        return (_chosen(self._by_name, host) or self._served[0]).pem

    def context(self) -> ssl.SSLContext:
        """Return what a new connection begins its handshake with."""
        return self._served[0].context

    async def run(self) -> None:
        """Read the certificates again whenever their files have changed, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self.reload()

    async def reload(self) -> None:
        """Read the certificates again if their files have changed; what can't be read changes nothing."""
        try:
            seen = await SHARED_THREADS.run(self._look)
            if seen == self._seen:
                return
            self._seen = seen
            served = await SHARED_THREADS.run(self._load)
        except CertificateError as error:
            log.error("the changed certificates can't be used", reason=str(error))
            return
        # Connections go on with what they began with.
        self._served, self._by_name = served, _by_name(served)
        for follow in self.followers:
            follow()
        log.info("certificates read again", certificates=len(served), sha256=self.fingerprint)

    def _files(self) -> list[CertificateFiles]:
        if self.is_self_signed:
            return []
        path = Path(self._certificate).expanduser()
        if not path.is_dir():
            return [CertificateFiles(path, Path(self._key).expanduser() if self._key else path)]
        return files_of(path)

    def _look(self) -> Mapping[Path, tuple[int, int, int]]:
        """Return what changes with the files."""
        seen = dict[Path, tuple[int, int, int]]()
        for path in {path for files in self._files() for path in files}:
            try:
                status = path.stat()
            except OSError:
                continue
            seen[path] = status.st_mtime_ns, status.st_size, status.st_ino
        return seen

    def _load(self) -> list[ServedCertificate]:
        """Read all certificates; the first one is for those who name no host, or one that nobody has."""
        if self.is_self_signed:
            try:
                both = self_signed(self._kept, self._hosts)
            except OSError as error:
                raise CertificateError(f"the self-signed certificate can't be kept: {error}") from error
            return [_load(CertificateFiles(Path(SELF_SIGNED), Path(SELF_SIGNED)), both, b"")]
        files = self._files()
        if not files:
            names = ", ".join(("NAME.pem", *KEY_NAMES))
            raise CertificateError(f"tls.certificate: {self._certificate}: none of {names} is in it")
        found = [
            _load(
                one,
                _read(one.certificate, "tls.certificate"),
                b"" if one.key == one.certificate else _read(one.key, "tls.key"),
            )
            for one in files
        ]
        _choose_by_name(found)
        return found


def configured_certificates(config: Config) -> Certificates:
    """Read the certificates of a configuration with TLS, or make one for development.

    Raises:
        CertificateError: there is none that can be used.
    """
    own = (lan_address.own_address(family) for family in (socket.AF_INET, socket.AF_INET6))
    hosts = ["localhost", "127.0.0.1", "::1", socket.gethostname(), *config.server.names, *filter(None, own)]
    return Certificates(config.tls.certificate, config.tls.key, data_folder(config, "tls"), hosts)


class GivenCertificates:
    """Certificates that another process reads, and renews.

    Args:
        certificates: the key, the certificate and those that sign it, of each; see `Certificates.pems`.

    Raises:
        CertificateError: one can't be used.
    """

    def __init__(self, certificates: Sequence[bytes]) -> None:
        self._default: ssl.SSLContext
        self.replace(certificates)

    def replace(self, certificates: Sequence[bytes]) -> None:
        """Use other certificates for new connections; others go on with what they began with.

        Raises:
            CertificateError: one can't be used; nothing is changed.
        """
        origin = CertificateFiles(Path("another process"), Path("another process"))
        served = [_load(origin, pem, b"") for pem in certificates]
        _choose_by_name(served)
        self._default = served[0].context

    def context(self) -> ssl.SSLContext:
        """Return what a new connection begins its handshake with."""
        return self._default


def files_of(folder: Path) -> list[CertificateFiles]:
    """Find the certificates in a folder: pairs such as ``NAME.pem`` and ``NAME.key``, or a folder for each.

    Raises:
        CertificateError: the folder can't be read, or has too many.
    """
    found = list[CertificateFiles]()
    try:
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                pairs = (CertificateFiles(path / one, path / key) for one, key in KEY_NAMES.items())
                found += [one for one in pairs if one.certificate.is_file()][:1]
            elif path.suffix in (".pem", ".crt"):
                key = KEY_NAMES.get(path.name, f"{path.stem}.key")
                if path.name not in KEY_NAMES.values():
                    found.append(CertificateFiles(path, path.with_name(key)))
    except OSError as error:
        raise CertificateError(f"{folder}: {error.strerror}") from error
    if len(found) > MAX_CERTIFICATES:
        raise CertificateError(f"{folder}: more than {MAX_CERTIFICATES} certificates")
    return found


class _Chooser:
    """Chooses the certificate by the name that a client asks for (RFC 6066 §3)."""

    def __init__(self, by_name: Mapping[str, ServedCertificate]) -> None:
        self._by_name = by_name

    def __call__(
        self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext
    ) -> None:
        chosen = _chosen(self._by_name, name or "")
        if chosen is not None:
            connection.context = chosen.context


def _choose_by_name(served: Sequence[ServedCertificate]) -> None:
    """Let handshakes with any of several certificates choose the one for the client's host name."""
    if len(served) > 1:
        by_name = _by_name(served)
        for one in served:
            one.context.sni_callback = _Chooser(by_name)


def _by_name(served: Sequence[ServedCertificate]) -> Mapping[str, ServedCertificate]:
    """Return the certificate for each host name: the first one, where several have it."""
    return {name: one for one in reversed(served) for name in one.names}


def _chosen(by_name: Mapping[str, ServedCertificate], name: str) -> ServedCertificate | None:
    host = name.lower().rstrip(".")
    return by_name.get(host) or by_name.get(f"*.{host.partition('.')[2]}")


def _read(path: Path, option: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_CERTIFICATE_BYTES)
    except OSError as error:
        raise CertificateError(f"{option}: {path}: {error.strerror}") from error


def _load(files: CertificateFiles, certificate: bytes, key: bytes) -> ServedCertificate:
    """Make the context of a certificate.

    Raises:
        CertificateError: it can't be used.
    """
    try:
        leaf = x509.load_pem_x509_certificate(certificate)
    except ValueError:
        raise CertificateError(f"tls.certificate: {files.certificate}: it has none in PEM") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(list(PROTOCOLS))
    # OpenSSL reads files only: this one is in memory, with the bytes that were looked at.
    pem = key + b"\n" + certificate
    file = os.memfd_create("certificate")
    try:
        os.write(file, pem)
        # A key with a password would make OpenSSL ask at the terminal.
        context.load_cert_chain(f"/proc/self/fd/{file}", password=lambda: "")
    except ssl.SSLError as error:
        mismatch = "MISMATCH" in (error.reason or "")
        what = "it isn't the certificate's key" if mismatch else "no key without a password is in it"
        raise CertificateError(f"tls.key: {files.key}: {what}") from None
    finally:
        os.close(file)
    fingerprint = leaf.fingerprint(hashes.SHA256()).hex(":").upper()
    return ServedCertificate(context, _names(leaf), fingerprint, leaf.not_valid_after_utc, pem)


def _names(leaf: x509.Certificate) -> frozenset[str]:
    """Return the host names of a certificate (RFC 5280 §4.2.1.6)."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    return frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName))
