"""Icecast's admin addresses, for its clients and tools: titles, statistics and listeners.

A request that concerns one station needs the password of its source, all others the administrator's token.
Icecast's manual ("Admin Interface") is the only specification; errors and messages are those of Icecast 2.4.
"""

from __future__ import annotations

import encodings
import functools
import pkgutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from encodings.aliases import aliases as encoding_aliases
from html import escape
from urllib.parse import quote, unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.access.authentication import UnauthorizedError, client_address
from origin.access.authorization import NEEDS, Action, NamedResource, ResourceKind
from origin.http.client_limits import network_of
from origin.radio.aliases import station_addresses, station_name
from origin.radio.connection_totals import ConnectionCounts
from origin.radio.mounts.icy_headers import one_line
from origin.radio.mounts.mount import Mount
from origin.radio.station_access import StationAccess
from origin.radio.station_factory import Stations
from origin.radio.status import STYLE, describe_server, describe_source
from origin.responses.base_url import base_url
from origin.responses.request_body import media_type_of, receive_body
from packager.threads import SHARED_THREADS

_CLOSING = {"connection": "close", "cache-control": "no-store"}
_NOT_KEPT = {"cache-control": "no-cache, no-store"}

FORM = "application/x-www-form-urlencoded"

FORM_BYTES = 16 << 10
"""Largest body; a title has a thousand characters."""

_ESCAPES = frozenset(("punycode", "idna", "unicode_escape", "raw_unicode_escape", "undefined"))
"""Python's codecs that are no character encodings; the first takes the square of a text's length."""

_CHARSETS = frozenset(one.name for one in pkgutil.iter_modules(encodings.__path__)) - _ESCAPES
"""Python's codecs of text. Other names aren't looked up, as Python remembers each unknown one for ever."""

MOST_PARAMETERS = 32
"""Most parameters of a request; clients of Icecast send at most seven."""

MOST_CHARSET_CHARACTERS = 32
"""Longest name of a character set that is looked up; those of Python's codecs are shorter."""


class AdminError(Exception):
    """A request that Icecast answers with 400; the text is its message."""


class Admin:
    """Answers the requests below ``/admin/``.

    Args:
        stations: the stations, and the passwords of their source clients.
    """

    def __init__(
        self,
        stations: Stations,
        access: StationAccess,
        counts: ConnectionCounts,
    ) -> None:
        self._mounts = stations.mounts
        self._passwords = stations.passwords
        self._aliases = stations.aliases
        self._access = access
        self._counts = counts

    def routes(self) -> list[BaseRoute]:
        """Make the routes; libshout 2.4.6 sends its titles by POST, all others by GET."""
        actions: dict[str, Callable[[Request, Mapping[str, str]], Awaitable[ElementTree.Element]]] = {
            "metadata": self._update_title,
            "stats": self._show_stats,
            "listmounts": self._list_mounts,
            "listclients": self._list_clients,
            "killclient": self._kill_client,
            "moveclients": self._move_clients,
            "killsource": self._kill_source,
        }
        paths = {name: (act, False) for name, act in actions.items()}
        paths |= {f"{name}.xsl": (act, True) for name, act in actions.items()}
        paths |= {"": (self._show_stats, True), "stats.xml": (self._show_stats, False)}
        return [
            Route(f"/admin/{path}", self._answering(act, as_page=as_page), methods=["GET", "POST"])
            for path, (act, as_page) in paths.items()
        ]

    def _answering(
        self,
        act: Callable[[Request, Mapping[str, str]], Awaitable[ElementTree.Element]],
        *,
        as_page: bool,
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                fields = await self._fields(request)
                top = await act(request, fields)
                # In a thread: thousands of listeners take a tenth of a second.
                write: Callable[[ElementTree.Element], Response] = _xml
                if as_page:
                    write = functools.partial(
                        _page, stations=self._on_page(await self._opens(request, fields))
                    )
                return await SHARED_THREADS.of(network_of(client_address(request))).run(write, top)
            except AdminError as error:
                return _error(400, str(error))

        return answer

    async def _fields(self, request: Request) -> Mapping[str, str]:
        """Read the parameters in a request's query, and in a form in its body.

        The form may name the station, so its body is read if the request has the password of any station.
        """
        text: bytes = request.scope["query_string"]
        if request.method == "POST":
            # Without stations that take sources the administrator remains.
            every = [NamedResource(ResourceKind.RADIO, name) for name in (*self._passwords, "")]
            if not await self._access.authorization.permissions(request, Action.MANAGE, every):
                raise UnauthorizedError(NEEDS[Action.MANAGE, ResourceKind.RADIO].line)
            body = await receive_body(request, FORM_BYTES)
            if body and media_type_of(request) in (FORM, ""):
                text = b"%b&%b" % (text, body.strip())
        return read_query(text)

    async def _update_title(self, request: Request, fields: Mapping[str, str]) -> ElementTree.Element:
        """Set the title of what a source client sends from now on."""
        name = self._name(fields.get("mount", ""))
        mount = self._mounts.get(name)
        # A station's existence is no secret, as anybody can request its address.
        if mount is None:
            raise AdminError("Source does not exist")
        if name not in self._passwords or mount.source_station is None:
            raise AdminError("Mountpoint will not accept URL updates")
        await self._require(request, name)
        if "mode" not in fields:
            raise AdminError("Missing parameter")
        if fields["mode"] != "updinfo":
            return _response("No such action", success=False)
        song = fields.get("song") or " - ".join(filter(None, (fields.get("artist"), fields.get("title"))))
        if not mount.source_station.set_title(song):
            raise AdminError("Source does not exist")
        return _response("Metadata update successful")

    async def _show_stats(self, request: Request, fields: Mapping[str, str]) -> ElementTree.Element:
        """Show the statistics of the server and its stations, or of one station."""
        await self._require(request, self._name(fields.get("mount", "")))
        base, live = base_url(request), self._live()
        top = ElementTree.Element("icestats")
        elsewhere = sum(mount.elsewhere.connections for mount in self._mounts.values())
        _fill(top, describe_server(base, live.values(), self._counts, elsewhere))
        shown = {fields["mount"]: self._source(fields)} if "mount" in fields else self._addresses()
        for address, mount in shown.items():
            url = f"{base}/{address.removeprefix('/')}"
            _fill(ElementTree.SubElement(top, "source", mount=address), describe_source(mount, url))
        return top

    async def _list_mounts(self, request: Request, _fields: Mapping[str, str]) -> ElementTree.Element:
        """List the stations that are on air."""
        await self._require(request)
        top = ElementTree.Element("icestats")
        _add_mounts(top, self._addresses())
        return top

    async def _list_clients(self, request: Request, fields: Mapping[str, str]) -> ElementTree.Element:
        """List the listeners of a station."""
        mount = await self._station(request, fields)
        listeners = [
            {
                "IP": one.client.address,
                "UserAgent": one.client.agent,
                "Connected": int(one.seconds),
                "ID": one.number,
            }
            for one in mount.present
        ]
        threads = SHARED_THREADS.of(network_of(client_address(request)))
        return await threads.run(_list_of_clients, fields["mount"], listeners)

    async def _kill_client(self, request: Request, fields: Mapping[str, str]) -> ElementTree.Element:
        """Disconnect a listener."""
        mount = await self._station(request, fields)
        if "id" not in fields:
            raise AdminError("Missing parameter")
        number = fields["id"]
        found = mount.dismiss(number)
        shown = number if number.isascii() and number.isdecimal() and len(number) < 20 else "?"
        what = "removed" if found else "not found"
        return _response(f"Client {shown} {what}", success=found)

    async def _move_clients(self, request: Request, fields: Mapping[str, str]) -> ElementTree.Element:
        """Move the listeners of a station to another; without one, list those that there are."""
        mount = await self._station(request, fields)
        others = {address: one for address, one in self._addresses().items() if one is not mount}
        opens = await self._opens(request, fields)
        if "destination" not in fields:
            top = ElementTree.Element("icestats")
            _fill(top, {"current_source": fields["mount"]})
            _add_mounts(top, {address: one for address, one in others.items() if opens(one)})
            return top
        destination = self._mounts.get(self._name(fields["destination"]))
        if destination is mount:
            raise AdminError("supplied mountpoints are identical")
        if destination is None or destination not in others.values():
            raise AdminError("No such destination")
        if not opens(destination):
            raise UnauthorizedError("server.admin_token is needed")
        if not destination.carries_like(mount):
            raise AdminError("the two streams aren't of the same type")
        mount.move_listeners(destination)
        return _response(f"Clients moved from {fields['mount']} to {fields['destination']}")

    async def _kill_source(self, request: Request, fields: Mapping[str, str]) -> ElementTree.Element:
        """Disconnect the source client of a station."""
        mount = await self._station(request, fields)
        if not mount.dismiss_source():
            raise AdminError("Source does not exist")
        return _response("Source Removed")

    async def _station(self, request: Request, fields: Mapping[str, str]) -> Mount:
        """Find the station on air that a request concerns, once its password was checked."""
        await self._require(request, self._name(fields.get("mount", "")))
        if "mount" not in fields:
            raise AdminError("Unknown admin request")
        return self._source(fields)

    def _name(self, address: str) -> str:
        return station_name(address, self._aliases)

    def _source(self, fields: Mapping[str, str]) -> Mount:
        mount = self._live().get(self._name(fields["mount"]))
        if mount is None:
            raise AdminError("Source does not exist")
        return mount

    def _addresses(self) -> dict[str, Mount]:
        """Return the stations on air by all their addresses: tools look for the one that they know."""
        live = self._live()
        return {address: live[name] for address, name in station_addresses(live, self._aliases).items()}

    async def _opens(self, request: Request, fields: Mapping[str, str]) -> Callable[[Mount], bool]:
        """Return a function that says whether a request may move listeners to a station."""
        return await self._access.destinations(request, self._name(fields.get("mount", "")))

    def _on_page(self, opens: Callable[[Mount], bool]) -> dict[str, _StationOnPage]:
        """Describe the stations on air for a page, by their own addresses."""
        live = self._live()
        addresses: dict[str, list[str]] = {name: [] for name in live}
        for address, name in station_addresses(live, self._aliases).items():
            addresses[name].append(address)
        return {
            f"/radio/{name}": _StationOnPage(
                tuple(one for one in addresses[name] if one != f"/radio/{name}"),
                mount.source_client is not None,
                mount.source_client is not None and name in self._passwords,
                tuple(
                    f"/radio/{other}"
                    for other, one in live.items()
                    if one is not mount and opens(one) and one.carries_like(mount)
                ),
            )
            for name, mount in live.items()
        }

    def _live(self) -> dict[str, Mount]:
        return {name: mount for name, mount in self._mounts.items() if mount.state == "live"}

    async def _require(self, request: Request, station: str = "") -> None:
        resource = NamedResource(ResourceKind.RADIO, station)
        if await self._access.authorization.permission(request, Action.MANAGE, resource) is None:
            # Without a source there is no password of one.
            needs = (
                (Action.MANAGE, ResourceKind.RADIO)
                if station in self._passwords
                else (Action.ADMINISTER, ResourceKind.SERVER)
            )
            raise UnauthorizedError(NEEDS[needs].line)


def read_query(query: bytes) -> dict[str, str]:
    """Parse a metadata query, whose text is in ``charset``, else in UTF-8 if valid, else in Latin-1.

    Args:
        query: percent-encoded; a form may have raw bytes of text, too.

    Returns:
        Values by name; the last of repeated names.

    Raises:
        AdminError: the query has more than `MOST_PARAMETERS`.
    """
    if query.count(b"&") >= MOST_PARAMETERS:
        raise AdminError("Too many parameters")
    pairs = [part.partition(b"=") for part in query.split(b"&") if part]
    raw = {unquote_to_bytes(name): unquote_to_bytes(value.replace(b"+", b" ")) for name, _, value in pairs}
    codecs = _codecs(raw.get(b"charset", b""))
    return {name.decode("ascii", "replace"): _decoded(value, codecs) for name, value in raw.items()}


def _codecs(charset: bytes) -> tuple[str, ...]:
    """Return the names of the codecs that are tried for text that says it is in a character set."""
    if len(charset) > MOST_CHARSET_CHARACTERS:
        return ("utf_8",)
    name = encodings.normalize_encoding(charset.decode("ascii", "replace")).lower()
    codec = encoding_aliases.get(name, name)
    return (codec, "utf_8") if codec in _CHARSETS else ("utf_8",)


def _decoded(value: bytes, codecs: Sequence[str]) -> str:
    for codec in codecs:
        try:
            return value.decode(codec)
        except (LookupError, UnicodeError):
            continue
    return value.decode("latin-1")


def _add_mounts(top: ElementTree.Element, mounts: Mapping[str, Mount]) -> None:
    for address, mount in mounts.items():
        described = {
            "fallback": "" if mount.fallback is None else mount.fallback.name,
            "listeners": mount.listeners,
            "Connected": mount.seconds_on_air,
            "content-type": mount.media_type,
        }
        _fill(ElementTree.SubElement(top, "source", mount=address), described)


def _list_of_clients(address: str, listeners: Sequence[Mapping[str, object]]) -> ElementTree.Element:
    top = ElementTree.Element("icestats")
    source = ElementTree.SubElement(top, "source", mount=address)
    _fill(source, {"Listeners": len(listeners)})
    for listener in listeners:
        _fill(ElementTree.SubElement(source, "listener"), listener)
    return top


def _fill(element: ElementTree.Element, described: Mapping[str, object]) -> None:
    for name, value in described.items():
        ElementTree.SubElement(element, name).text = one_line(str(value))


def _xml(top: ElementTree.Element) -> Response:
    for element in top.iter("source"):
        element.set("mount", one_line(element.get("mount", "")))
    text = '<?xml version="1.0"?>\n' + ElementTree.tostring(top, "unicode", short_empty_elements=False) + "\n"
    return Response(text, media_type="text/xml", headers=_NOT_KEPT)


@dataclass(frozen=True, slots=True)
class _StationOnPage:
    """A station on air, as the page shows it with its forms.

    Attributes:
        aliases: further addresses of the station.
        has_source: whether a source client is connected.
        takes_titles: whether its title can be set.
        destinations: addresses of the stations to which its listeners can be moved.
    """

    aliases: tuple[str, ...]
    has_source: bool
    takes_titles: bool
    destinations: tuple[str, ...]


def _page(top: ElementTree.Element, stations: Mapping[str, _StationOnPage]) -> Response:
    """Write as HTML for people what tools get as XML: a station once, with what can be done with it."""
    parts = [_table(top)]
    again = {alias for one in stations.values() for alias in one.aliases}
    sources = [(one_line(source.get("mount", "")), source) for source in top.iter("source")]
    for mount, source in sources:
        if mount in again and len(sources) > 1:
            continue
        clients = f"listclients.xsl?mount={quote(mount)}"
        parts.append(f'<h2>Mountpoint {escape(mount)}</h2>\n<p><a href="{clients}">List Clients</a></p>')
        if (station := stations.get(mount)) is not None:
            parts += _actions(mount, station)
        parts.append(_table(source))
        for listener in source.iter("listener"):
            number = {"mount": mount, "id": listener.findtext("ID", "")}
            parts += [_table(listener), _form("killclient", "Disconnect the listener", number)]
    return Response(
        _PAGE.format(style=STYLE, content="\n".join(parts)), media_type="text/html", headers=_NOT_KEPT
    )


def _actions(mount: str, station: _StationOnPage) -> Iterator[str]:
    if station.aliases:
        yield f"<p>Also at {escape(', '.join(station.aliases))}</p>"
    if station.takes_titles:
        title = '<label>Title <input name="song" required></label> '
        yield _form("metadata", "Set the title", {"mount": mount, "mode": "updinfo"}, title)
    if station.destinations:
        options = "".join(f"<option>{escape(one)}</option>" for one in station.destinations)
        listed = f'<label>To <select name="destination">{options}</select></label> '
        yield _form("moveclients", "Move the listeners", {"mount": mount}, listed)
    if station.has_source:
        yield _form("killsource", "Disconnect the source", {"mount": mount})


def _form(action: str, label: str, fields: Mapping[str, str], visible: str = "") -> str:
    """Write a form, which is sent by POST: pages of other sites lead browsers to links, too."""
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in fields.items()
    )
    return (
        f'<form method="post" action="{action}.xsl">{hidden}{visible}<button>{escape(label)}</button></form>'
    )


def _table(element: ElementTree.Element) -> str:
    rows = "\n".join(
        f"<tr><td>{escape(one.tag)}</td><td>{escape(one.text or '')}</td></tr>"
        for one in element
        if not len(one) and one.tag != "source"
    )
    return f"<table>\n{rows}\n</table>"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Administration of stations</title>
<style>{style}</style>
</head>
<body>
<h1>Administration of stations</h1>
<p><a href="stats.xsl">Statistics</a> <a href="listmounts.xsl">Stations on air</a>
<a href="/status.xsl">Public page</a></p>
{content}
</body>
</html>
"""


def _response(message: str, *, success: bool = True) -> ElementTree.Element:
    top = ElementTree.Element("iceresponse")
    _fill(top, {"message": message, "return": int(success)})
    return top


def _error(status: int, message: str) -> Response:
    text = f"<b>{status} - {escape(message)}</b>"
    page = f"<html><head><title>Error {status}</title></head><body>{text}</body></html>\n"
    return Response(page, status, media_type="text/html", headers={**_NOT_KEPT, **_CLOSING})
