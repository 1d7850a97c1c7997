"""The handover of a connection to another process of the server, which answers what this one can't.

The head of a request is read here to its end. If the other process has to answer, it gets the connection's
descriptor with the bytes of the request and all that was read behind it, once the kernel has the answers to
all requests before. From then on the connection is that process's own (`HttpProtocol.take_over`).

A connection with TLS or HTTP/2 has state here that no descriptor carries. It stays, and the other process
gets single requests of it (`OtherProcess.relay`).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from starlette.types import ASGIApp, Scope

RELAYED = "headwater.relayed"
"""ASGI extension of a request that is relayed, which says whether it has a body."""


class RelayedFrom(NamedTuple):
    """The connection from which another process relays a request, as an ASGI scope describes it."""

    client: tuple[str, int] | None
    server: tuple[str, int | None] | None
    scheme: str


class OtherProcess(Protocol):
    """The process that connections are handed over to."""

    @property
    def has_room(self) -> bool:
        """Whether the process accepts one more connection now; otherwise the request is answered with 503."""

    @property
    def relay(self) -> ASGIApp:
        """Answers a request with what the other process answers; the connection stays here."""

    def answers(self, scope: Scope, *, upgrading: bool) -> bool:
        """Return whether the other process answers a request, and this one doesn't.

        Args:
            scope: with the request's method, path, query and fields.
            upgrading: whether the connection is to have another protocol behind it.
        """

    def hand_over(self, descriptor: int, data: bytes) -> None:
        """Hand a connection over to the other process.

        Args:
            descriptor: of the connection's socket; the caller closes it afterwards.
            data: the bytes of the request, and those that were read behind them.
        """
