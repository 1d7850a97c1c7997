"""The server's certificates in the form that the library for QUIC reads."""

from __future__ import annotations

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from origin.http3.engines import CONNECTION_WINDOW, STREAM_WINDOW
from origin.http3.session_tickets import SessionTickets
from origin.tls.certificates import Certificates

ALPN = "h3"
"""RFC 9114 §3.1."""

CONFIGURATIONS_KEPT = 1000
"""Most certificates that are kept in the library's form."""


class QuicCertificates:
    """Chooses the certificate for a connection by the host name that its client asks for.

    Args:
        idle_seconds: after which a connection ends of whose client nothing comes.
        reset_key: secret of the tokens by which clients learn that their connections are gone.

    Attributes:
        tickets: sessions that may be resumed, with any of the certificates.
    """

    def __init__(self, certificates: Certificates, idle_seconds: float, reset_key: bytes) -> None:
        self.tickets = SessionTickets()
        self.reset_key = reset_key
        self._certificates = certificates
        self._idle_seconds = idle_seconds
        self._made: dict[bytes, QuicConfiguration] = {}
        self.default = self.choose("")

    def choose(self, host: str) -> QuicConfiguration:
        """Return the configuration with the certificate for a host name, which may be empty."""
        pem = self._certificates.pem_for(host)
        made = self._made.get(pem)
        if made is None:
            if len(self._made) >= CONFIGURATIONS_KEPT:
                self._made.clear()
            made = self._made[pem] = self._make(pem)
        return made

    def _make(self, pem: bytes) -> QuicConfiguration:
        leaf, *chain = x509.load_pem_x509_certificates(pem)
        return QuicConfiguration(
            is_client=False,
            alpn_protocols=[ALPN],
            idle_timeout=self._idle_seconds,
            max_data=CONNECTION_WINDOW,
            max_stream_data=STREAM_WINDOW,
            certificate=leaf,
            certificate_chain=chain,
            private_key=load_pem_private_key(pem, None),
        )
