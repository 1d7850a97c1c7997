"""Makes the certificate of a server for development, which its own key signs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from packager.safe_files import DataFolder

FILE, FILE_BYTES = "self-signed.pem", 1 << 16
"""Name of the file with the certificate and its key, and its largest size."""

VALID_DAYS = 397
"""Longest validity that browsers accept."""

LEAST_DAYS = 30
"""A kept certificate that is valid for fewer days is made anew."""


def self_signed(folder: DataFolder | None, hosts: Sequence[str]) -> bytes:
    """Return a certificate and its key in PEM: the kept one, or else a new one, which is kept.

    Args:
        folder: where it is kept; None: nowhere.
        hosts: names and addresses that the certificate is for.

    Raises:
        OSError: it can't be written.
    """
    if folder is None:
        return make_certificate(hosts)
    with folder.open(make=True) as opened:
        try:
            kept = opened.read(FILE, FILE_BYTES)
        except FileNotFoundError:
            kept = b""
        if not _is_good(kept, hosts):
            kept = make_certificate(hosts)
            opened.write_whole(FILE, kept)
        return kept


def _is_good(text: bytes, hosts: Sequence[str]) -> bool:
    """Return whether a certificate is for these hosts, stays valid and fits the key beside it."""
    try:
        certificate = x509.load_pem_x509_certificate(text)
        key = serialization.load_pem_private_key(text, None)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return (
        list(names) == _names(hosts)
        and certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=LEAST_DAYS)
        and certificate.public_key() == key.public_key()
    )


def _names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names = list[x509.GeneralName]()
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def make_certificate(hosts: Sequence[str], days: float = VALID_DAYS) -> bytes:
    """Make a key and a certificate that it signs; return both in PEM.

    Args:
        hosts: names and addresses that the certificate is for.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Headwater, self-signed")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days - 1))
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return made.public_bytes(pem) + key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
