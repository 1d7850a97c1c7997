"""The URLs of a server by its configuration: for its clients, and for programs on its machine."""

from __future__ import annotations

from urllib.parse import urlsplit

from origin.config.errors import CommandError
from origin.config.options import Config

LOOPBACK = ("127.0.0.1", "::1", "localhost")

LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared, not bound

DEFAULT_PORTS = {"http": 80, "https": 443}


def base_address(config: Config) -> str:
    """Return the URL under which clients reach the server by its configuration, without a slash.

    Without ``server.public_url`` that is the first of its names, at the port for HTTPS where it has one. With
    names a server without HTTPS that listens on loopback is reached at a proxy, and at no port of its own.
    """
    server, tls = config.server, config.tls
    if server.public_url:
        return server.public_url.rstrip("/")
    name = server.names[0] if server.names else ""
    scheme, port = ("https", tls.port) if tls.certificate else ("http", server.port)
    is_proxied = bool(name) and not tls.certificate and server.host in LOOPBACK
    host = name or LOOPBACK_OF.get(server.host, server.host)
    return address_with(scheme, host, DEFAULT_PORTS[scheme] if is_proxied else port)


def own_address(config: Config) -> str:
    """Return the URL at which programs on this machine reach the server, without a slash.

    The administrator's port leads nobody elsewhere; ``server.port`` does with ``tls.redirect``.

    Raises:
        CommandError: the configuration leaves the port open.
    """
    server, tls = config.server, config.tls
    is_led = bool(tls.certificate and tls.redirect and not server.admin_port)
    port = tls.port if is_led else server.admin_port or server.port
    if not port:
        key = "tls.port" if is_led else "server.port"
        raise CommandError(f"{key} is 0: name the server with --to, such as http://127.0.0.1:8000")
    host = server.admin_host if server.admin_port else server.host
    return address_with("https" if is_led else "http", LOOPBACK_OF.get(host, host), port)


def own_names(config: Config) -> frozenset[str]:
    """Return the names and addresses of the server in URLs of it, as far as the configuration says them."""
    server = config.server
    public = urlsplit(server.public_url).hostname
    return frozenset((*LOOPBACK, server.host, *server.names, *(() if public is None else (public,))))


def address_with(scheme: str, host: str, port: int) -> str:
    """Write a URL's scheme, host and port, which is left out where it is the scheme's own."""
    text = f"[{host}]" if ":" in host else host
    return f"{scheme}://{text}" if port == DEFAULT_PORTS[scheme] else f"{scheme}://{text}:{port}"
