"""Sessions of TLS that clients of QUIC may resume, which saves both sides the certificate (RFC 8446 §2.2)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from packager.bounded_dict import BoundedDict

if TYPE_CHECKING:
    from aioquic.tls import SessionTicket

TICKETS, TICKET_SECONDS = 4096, 7200.0
"""Most sessions that are kept, each in some hundred bytes, and for how long."""


class _KeptSession(NamedTuple):
    session: SessionTicket
    certificate: object
    expires: float


class SessionTickets:
    """Keeps the sessions of the newest connections.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept = BoundedDict[bytes, _KeptSession](TICKETS)

    def __len__(self) -> int:
        """Return how many sessions are kept."""
        return len(self._kept)

    def keep(self, session: SessionTicket, certificate: object) -> None:
        """Keep the session of a connection.

        Args:
            certificate: identifies the certificate that the client has seen.
        """
        now = self._clock()
        self._kept.evict_while(lambda kept: kept.expires <= now)
        # Our own transport parameters are those of the next connection anyway.
        session = replace(session, other_extensions=[])
        self._kept[session.ticket] = _KeptSession(session, certificate, now + TICKET_SECONDS)

    def find(self, ticket: bytes, certificate: object) -> SessionTicket | None:
        """Return the session of a ticket that was given behind the same certificate; None without one.

        A renewed certificate, and that of another name, are shown to the client first (RFC 8446 §4.6.1).
        """
        kept = self._kept.get(ticket)
        if kept is None or kept.certificate is not certificate or kept.expires <= self._clock():
            return None
        return kept.session
