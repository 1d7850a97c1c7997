"""Addresses that are to be signed: their spellings, and their faults."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from origin.access.protected_addresses import ProtectedAddresses
from origin.config.options import Config, event_channels, event_templates
from origin.config.own_addresses import LOOPBACK_OF, base_address, own_names
from origin.config.stations import is_in_hls
from origin.http.channel_patterns import is_made_live_name, matches, own_name, template_of
from origin.http.path_prefixes import split_token
from origin.server.services.access_services import protected_addresses
from origin.server.services.library_services import S3_SCHEME
from packager.library.title_files import FolderTitles

NAMES = 100_000
"""Most names of a folder of the library in which the files of a title are looked for."""

EXAMPLE = "such as /live/demo/master.m3u8"
PLAYLISTS = "append /master.m3u8 for HLS, or /manifest.mpd for DASH"
PLAYLIST_FILES = (".m3u", ".pls", ".xspf")
"""Endings of the addresses of a station's playlist files."""

NOTHING = "nothing is served at"
NO_PLAYER = "no player can open"

KINDS = {"live": "channel", "radio": "station", "events": "event channel"}

IsServed = Callable[[str, str], bool]
"""Returns whether a server that runs has a channel, a station or an event channel, by area and name."""


@dataclass(frozen=True, slots=True)
class SignableAddresses:
    """The addresses of a server that can be signed.

    Attributes:
        protected: decides which addresses need a token.
        is_served: of a server that runs; None where only its configuration is known.
    """

    config: Config
    protected: ProtectedAddresses
    is_served: IsServed | None = None

    @classmethod
    def configured(cls, config: Config) -> SignableAddresses:
        """Return those of a server of which only the configuration is known."""
        return cls(config, protected_addresses(config))

    def path_of(self, text: str, base: str = "") -> str:
        """Return the path and the query that an address means.

        Args:
            text: a path, perhaps without the slash before it, or a whole URL of this server, perhaps signed.
            base: the server's URL for the client that asks, besides the configured ones.

        Raises:
            ValueError: it means no address of this server; the text says what is allowed.
        """
        text = text.strip()
        if "://" in text:
            text = self._path_of_url(text, base or base_address(self.config))
        if not text.strip("/") and text != "/":
            raise ValueError(f"path: name an address, {EXAMPLE}")
        _, path = split_token(text if text.startswith("/") else f"/{text}")
        aliased = (one.name for one in self.config.radio if path in one.aliases)
        return next((f"/radio/{name}" for name in aliased), path)

    def _path_of_url(self, text: str, base: str) -> str:
        own = urlsplit(base)
        try:
            url = urlsplit(text)
            is_own = self._is_own(url, own)
        except ValueError:  # such as of a bracket that isn't closed
            is_own = False
        if not is_own:
            raise ValueError(f"{text} is no address of this server, {base}; name a path, {EXAMPLE}")
        if url.fragment:
            raise ValueError(f"{text} is an address of the page; name what players fetch, {EXAMPLE}")
        path = url.path.removeprefix(own.path.rstrip("/"))
        return f"{path}?{url.query}" if url.query else path

    def _is_own(self, url: SplitResult, own: SplitResult) -> bool:
        if url.scheme not in ("http", "https") or url.hostname is None:
            return False
        # A server that listens on all addresses is known by each of them.
        if self.config.server.host in LOOPBACK_OF and _is_ip(url.hostname):
            return True
        return url.hostname in own_names(self.config) or url.hostname == own.hostname

    def faults(self, address: str, *, publishes: bool = False, on_page: bool = False) -> list[str]:
        """Return the faults of a signed address, a sentence each. Blocks.

        Args:
            address: a path, perhaps with a query.
            publishes: whether the token is for publishing.
            on_page: whether the page is to show it, which needs no address that a player can open.
        """
        path = unquote(address.partition("?")[0])
        found = [one for one in self._faults(path, publishes=publishes) if not (on_page and NO_PLAYER in one)]
        is_nothing = bool(found) and found[0].startswith(NOTHING)
        if not (publishes or is_nothing) and self.is_open(path):
            found.append(f"{path} is open: everybody may fetch it without a token")
        return found

    def is_open(self, path: str) -> bool:
        """Return whether everybody may fetch a path, and what a token for the path opens."""
        return not any(map(self.protected.signed_paths, self._within(path)))

    def _within(self, path: str) -> Iterator[str]:
        """Yield the paths of which one needs a token where anything does that a path's token opens."""
        yield path
        area, _, rest = path[1:].partition("/")
        folder = f"{rest.rstrip('/')}/".lstrip("/")
        if area in ("", "media", "vod"):
            inner = (one for one in self.config.library.folders if f"{one}/".startswith(folder))
            yield from (f"/media/{one}" for one in inner)
        if area in ("", "live"):
            every = [one.name for one in self.config.live] + [one.name for one in self.config.radio]
            names = [rest] if rest else every
            yield from (f"/live/{name}{below}" for name in names for below in ("", "/recordings/any"))
        if area in ("", "radio", "events") and not rest:
            yield from (f"/radio/{one.name}" for one in self.config.radio)
            yield from (f"/events/{one.name}" for one in self.config.events)

    def _faults(self, path: str, *, publishes: bool) -> Iterator[str]:
        area, _, rest = path[1:].partition("/")
        rest = rest.rstrip("/")
        if path == "/":
            yield "the token opens everything that needs one"
        elif area in ("media", "vod"):
            yield from self._faults_of_file(path, area, rest)
        elif area not in KINDS:
            areas = "/media, /vod, /live, /radio or /events"
            yield f"{NOTHING} {path}: addresses that need a token begin with {areas}"
        elif not rest:
            yield f"{path} is no {KINDS[area]}: the token opens all below it"
        else:
            yield from self._faults_of_service(path, area, rest, publishes=publishes)

    def _faults_of_service(self, path: str, area: str, rest: str, *, publishes: bool) -> Iterator[str]:
        names_of_channels = [one.name for one in self.config.live]
        name, below = own_name(rest, names_of_channels) if area == "live" else (rest, "")
        names = [name, *(name.removesuffix(one) for one in PLAYLIST_FILES if area == "radio")]
        if area == "events" and name.startswith("radio/"):
            area, names = "radio", [name.removeprefix("radio/")]
        if not any(self._has(area, one) for one in names):
            known = "configured" if self.is_served is None else "there"
            yield f"{NOTHING} {path}: no {KINDS[area]} {name!r} is {known}"
        elif area == "live" and not below and not publishes:
            yield f"{NO_PLAYER} {path} itself, but what is below it; {PLAYLISTS}"

    def _has(self, area: str, name: str) -> bool:
        if self.is_served is not None and self.is_served(area, name):
            return True
        config = self.config
        if area == "live":
            stations = [one.name for one in config.radio if is_in_hls(one, config)]
            known = (*(one.name for one in config.live), *stations, *config.access.channels)
            return name in known or (is_made_live_name(name) and template_of(name) in known)
        if area == "radio":
            return any(one.name == name for one in config.radio)
        configured = any(one.name == name for one in event_channels(config))
        made = self.is_served is None and any(matches(one.name, name) for one in event_templates(config))
        return configured or made

    def _faults_of_file(self, path: str, area: str, rest: str) -> Iterator[str]:
        if self.config.library.path.startswith(S3_SCHEME):
            return
        root = Path(self.config.library.path).expanduser()
        parts = rest.split("/") if rest else []
        for count in range(1, len(parts) + 1):
            place = root.joinpath(*parts[:count])
            with contextlib.suppress(OSError, ValueError):
                if place.is_dir():
                    continue
                folder, name = "/".join(parts[: count - 1]), parts[count - 1]
                is_title = area == "vod" and FolderTitles(root, NAMES).renditions(folder, name) != []
                if (place.is_file() or is_title) and (area == "vod" or count == len(parts)):
                    if area == "vod" and count == len(parts):
                        yield f"{NO_PLAYER} {path} itself, but what is below it; {PLAYLISTS}"
                    return
            yield f"{NOTHING} {path}: {'/'.join(parts[:count])!r} isn't in the library"
            return
        yield f"{path} is a folder: the token opens all that is in it, and {NO_PLAYER} the folder"


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
