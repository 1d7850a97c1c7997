"""Other addresses of stations, for listeners and source clients: a station moves and nobody notices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from origin.radio.playlist_files import ENDINGS


def station_name(address: str, aliases: Mapping[str, str]) -> str:
    """Return the name of the station with an address: ``/radio/NAME``, ``/NAME`` for short, or an alias."""
    found = aliases.get(address if address.startswith("/") else f"/{address}")
    return found or address.removeprefix("/").removeprefix("radio/")


def station_addresses(names: Iterable[str], aliases: Mapping[str, str]) -> dict[str, str]:
    """Return the names of stations by all their addresses: of each its own first, and then its aliases."""
    by_name: dict[str, list[str]] = {name: [f"/radio/{name}"] for name in names}
    for address, name in aliases.items():
        if name in by_name and address not in by_name[name]:
            by_name[name].append(address)
    return {address: name for name, addresses in by_name.items() for address in addresses}


class StationAliases:
    """ASGI middleware that answers at the aliases of stations, and of their playlist files.

    The path becomes the station's own, so that the rest of the server knows one address; ``raw_path`` stays
    that of the request.

    Args:
        aliases: names of stations by path; may change.
    """

    def __init__(self, app: ASGIApp, aliases: Mapping[str, str]) -> None:
        self._app = app
        self._aliases = aliases

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            scope["path"] = self._own_path(scope["path"])
        await self._app(scope, receive, send)

    def _own_path(self, path: str) -> str:
        """Return the path of a station, or its playlist file, for an alias; any other path unchanged."""
        if (name := self._aliases.get(path)) is not None:
            return f"/radio/{name}"
        alias, _, ending = path.rpartition(".")
        if ending in ENDINGS and (name := self._aliases.get(alias)) is not None:
            return f"/radio/{name}.{ending}"
        return path
