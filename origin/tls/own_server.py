"""Requests of a server to itself, where its plain port only redirects."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from origin.config.options import Config
from origin.config.own_addresses import DEFAULT_PORTS, own_address, own_names
from packager.sources.pullers.address_guard import OwnServer, lead_own_connections


def lead_own_requests(config: Config) -> None:
    """Have this process' requests for its own plain port lead to the port that answers: all of its clients.

    That is the server's own HTTPS, or the administrator's port, where the plain port only redirects.
    """
    server, tls = config.server, config.tls
    if not (tls.certificate and tls.redirect and server.port and (server.admin_port or tls.port)):
        lead_own_connections(None)
        return

    def trust() -> ssl.SSLContext:
        # Here and not above: httpx is slow to import, and most servers ask nobody.
        from origin.tls.client_trust import own_context

        return own_context(config)

    own = urlsplit(own_address(config))
    host, port = own.hostname or server.host, own.port or DEFAULT_PORTS[own.scheme]
    verified = trust if own.scheme == "https" else None
    lead_own_connections(OwnServer(own_names(config), server.port, host, port, verified))
