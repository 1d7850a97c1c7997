"""Makes the listeners of HTTP/3 from the configuration, where the extra for it is installed."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Sequence
from functools import partial

from origin.config.errors import CommandError
from origin.config.options import Config, data_folder
from origin.http.answer import Headers
from origin.system.connection_acceptor import MakeAcceptor
from origin.tls.certificates import Certificates

ALTERNATIVE_SECONDS = 86_400
"""For how long a client may remember that there is HTTP/3 (RFC 7838 §3.1)."""

IDLE_SECONDS = 60.0
"""Time after which a connection ends of whose client nothing comes, not even a confirmation."""


def require_http3(config: Config) -> None:
    """Check that HTTP/3 can be served, if it is configured.

    Raises:
        CommandError: the extra isn't installed.
    """
    if config.tls.http3 and importlib.util.find_spec("aioquic") is None:
        raise CommandError("tls.http3: HTTP/3 needs an extra; install headwater[http3]")


def alternative_services(sockets: Sequence[socket.socket]) -> Headers:
    """Return the header field that leads clients to HTTP/3, if there is any (RFC 7838 §3)."""
    ports = [one.getsockname()[1] for one in sockets[:1]]
    return [(b"alt-svc", b'h3=":%d"; ma=%d' % (port, ALTERNATIVE_SECONDS)) for port in ports]


def kept_reset_key(config: Config) -> bytes:
    """Return the key by which clients learn at once that a crash has ended their connections.

    Raises:
        CommandError: it can't be kept.
    """
    if not config.tls.http3:
        return b""
    from origin.http3.stateless_reset import reset_key

    try:
        return reset_key(data_folder(config, "tls"))
    except OSError as error:
        raise CommandError(f"the key of HTTP/3's stateless resets can't be kept: {error}") from error


def http3_listeners(
    certificates: Certificates | None, sockets: Sequence[socket.socket], reset_key: bytes = b""
) -> list[MakeAcceptor]:
    """Return what makes the listeners of HTTP/3.

    Args:
        reset_key: see `kept_reset_key`.
    """
    if certificates is None or not sockets:
        return []
    from origin.http3.certificates import QuicCertificates
    from origin.http3.listener import Http3Listener

    quic_certificates = QuicCertificates(certificates, IDLE_SECONDS, reset_key)
    return [partial(Http3Listener, one, quic_certificates) for one in sockets]
