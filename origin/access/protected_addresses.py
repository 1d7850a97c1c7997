"""Decides which addresses need a token, and whether a request has one that is valid for its address."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote

from origin.access.address_tokens import PLAYLISTS, Token, has_clip, is_plain
from origin.access.token_keys import EXPIRED, NOT_VALID, TokenKeys
from origin.access.viewer_sessions import ViewerSession, ViewerSessions
from origin.http.channel_patterns import ANY, template_of
from origin.vod.addresses import PREFIX, find_address
from packager.library.title_files import RENDITION

GRACE_SECONDS = 12.0
"""For how long media are answered behind the token's end: longer than a live channel's target duration."""

PATHS_KEPT = 1024
"""Most paths of which it is kept whether they need a token: all viewers of something have the same."""

MISSING = "a token is needed: this address is for those who were given one"
NO_CLIPS = "the token doesn't allow clips"


class ProtectedAddresses:
    """The addresses that need a token.

    Args:
        library: whether files of the library do that are in none of the folders.
        folders: whether those in a folder do, by its path; the longest path counts. The path may be that of a
            film, or of a title, to which its files belong.
        channels: whether a live channel does, by its name, stations in HLS among them; or those of a pattern.
        recordings: whether recordings of a channel do, by its name; those of others are as their channels.
        stations: whether a station does, by its name.
        events: whether an event channel does, by its name.

    Attributes:
        simulcasts: the names of stations that are live channels, too.
        signed_paths: see `_signed_paths`.
        version: how often it was replaced.
    """

    def __init__(
        self,
        *,
        library: bool = False,
        folders: Mapping[str, bool] | None = None,
        channels: Mapping[str, bool] | None = None,
        recordings: Mapping[str, bool] | None = None,
        stations: Mapping[str, bool] | None = None,
        events: Mapping[str, bool] | None = None,
    ) -> None:
        self.version = 0
        self.simulcasts: frozenset[str] = frozenset()
        self._channels: dict[str, bool] = {}
        self._recordings: dict[str, bool] = {}
        self._stations: dict[str, bool] = {}
        self._events: dict[str, bool] = {}
        named = folders, channels, recordings, stations, events
        self._set(library, *({} if one is None else one for one in named))

    def replace(self, other: ProtectedAddresses) -> None:
        """Take over what needs a token from another one; services that it doesn't know stay as they are."""
        self.simulcasts |= other.simulcasts
        named = other._channels, other._recordings, other._stations, other._events
        self._set(other._library, other._folders, *named)
        self.version += 1

    def _set(
        self,
        library: bool,
        folders: Mapping[str, bool],
        channels: Mapping[str, bool],
        recordings: Mapping[str, bool],
        stations: Mapping[str, bool],
        events: Mapping[str, bool],
    ) -> None:
        self._library = library
        self._folders = folders
        signed = [folder for folder, is_signed in self._folders.items() if is_signed]
        # A title has the bytes of its files, also where only one of these needs a token.
        titles = filter(None, map(_title_of, signed))
        self._spelled = {_spelled(path) for path in (*signed, *titles)}
        self._deepest = max((folder.count("/") + 1 for folder in self._folders), default=0)
        self._channels = {**self._channels, **channels}
        self._recordings = {**self._recordings, **recordings}
        self._stations = {**self._stations, **stations}
        self._events = {**self._events, **events}
        self.has_files = library or bool(self._spelled)
        self.signed_paths = functools.lru_cache(maxsize=PATHS_KEPT)(self._signed_paths)

    def __bool__(self) -> bool:
        named = (self._channels, self._recordings, self._stations, self._events)
        return self.has_files or any(is_signed for one in named for is_signed in one.values())

    @property
    def file_paths(self) -> list[str]:
        """The paths of which each needs a token of the library: its folders, films and titles, or its own."""
        own = ["/vod/"] if self._library else []
        return own + [f"/vod/{folder}" for folder, is_signed in self._folders.items() if is_signed]

    def _signed_paths(self, path: str) -> tuple[str, ...]:
        """Return the paths of which a token has to cover one; none where everybody may fetch the address.

        A station has two addresses, and a token for the one opens the other.

        Args:
            path: decoded, without token and query.
        """
        area, _, rest = path[1:].partition("/")
        if area in ("media", "vod") and self.has_files:
            return (path,) if self.has_file(rest) or not is_plain(path) else ()
        if area == "live":
            if not self._has_signed_channel(rest):
                return ()
            name = rest.partition("/")[0]
            return (path, f"/radio/{name}") if name in self.simulcasts else (path,)
        if area == "radio" or (area == "events" and rest.startswith("radio/")):
            # A station's playlist files and title events are for those who may listen.
            name = rest.removeprefix("radio/")
            station = name if name in self._stations else name.rpartition(".")[0]
            if not self._stations.get(station):
                return ()
            own = f"/radio/{station}"
            return (own, f"/live/{station}") if station in self.simulcasts else (own,)
        if area == "events":
            return (path,) if self._events.get(rest) else ()
        return ()

    def _has_signed_channel(self, rest: str) -> bool:
        """Return whether what is below ``/live/`` needs a token: a channel of its name, or of a pattern.

        The first segment is a channel's name, or the first two are that of a pattern's channel, which may be
        there or not: if either needs a token, the address does.
        """
        first, _, below = rest.partition("/")
        for name, own in ((first, below), (f"{first}/{ANY}", below.partition("/")[2])):
            is_recorded = own.startswith("recordings/") and name in self._recordings
            if (self._recordings if is_recorded else self._channels).get(name):
                return True
        return False

    def may_include(self, playlist: str, film: str) -> bool:
        """Return whether a playlist of clips may have parts of a film, which mustn't be less open than it."""
        return self.has_file(playlist) or not self.has_file(film)

    def hides_recordings(self, channel: str) -> bool:
        """Return whether recordings of a channel need a token that everybody may watch."""
        name = channel if channel in self._channels else template_of(channel)
        return bool(self._recordings.get(name)) and not self._channels.get(name)

    def has_file(self, name: str) -> bool:
        """Return whether a file of the library, or what is made of it, needs a token.

        Args:
            name: relative to the library.
        """
        parts = name.split("/", self._deepest)[: self._deepest] if self._folders else []
        for count in range(len(parts), 0, -1):
            folder = "/".join(parts[:count])
            for path in filter(None, (folder, _title_of(folder))):
                if (is_signed := self._folders.get(path)) is not None:
                    return is_signed
                # A file system may know a file by other spellings; an exception is for the exact one alone.
                if _spelled(path) in self._spelled:
                    return True
        return self._library


class Grant(NamedTuple):
    """The permission to fetch an address with a token.

    Attributes:
        refusal: the reason why there is none; empty for a permission.
        until: until when requests are answered, in seconds since the epoch.
        ends: when streams end, and requests are answered that wait.
        label: the token's, for logs; empty where the token isn't valid.
        name: the viewer's; empty for none.
        expires: the token's, in seconds since the epoch.
        is_stream: whether the address is that of a stream, of a station or of events, and not of something by
            and by.
        digest: of the token's identifier; empty for a token without one.
        is_momentary: whether the next request may be refused, as what is played goes on.
    """

    refusal: str = ""
    until: float = math.inf
    ends: float = math.inf
    label: str = ""
    name: str = ""
    expires: float = math.inf
    is_stream: bool = False
    digest: str = ""
    is_momentary: bool = False


class TokenGuard:
    """Decides whether a request for a protected address is answered, by its token.

    Args:
        sessions: counts the sessions of viewers with names; None where their number isn't limited.
        keeps_public: whether a cache in front checks tokens, so that it may keep answers for all.
        grace_seconds: for how long media are answered behind the token's end.

    Attributes:
        plays: returns whether a live playlist has the picture for which a path and a query ask.
    """

    def __init__(
        self,
        protected: ProtectedAddresses,
        keys: TokenKeys,
        sessions: ViewerSessions | None = None,
        *,
        keeps_public: bool = False,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self.protected = protected
        self.keys = keys
        self.sessions = sessions
        self.keeps_public = keeps_public
        self.plays: Callable[[str, str], bool] = lambda _path, _query: False
        self._grace = grace_seconds

    def decide(self, token: str, path: str, query: str = "", client: str = "") -> Grant | None:
        """Return the permission to fetch an address, or why there is none; None where everybody may.

        Args:
            token: as the request has it; empty without one.
            path: decoded, without token and query.
            client: address of the client; without it no token is valid that is bound to one.
        """
        signed_paths = self.protected.signed_paths(path)
        if not signed_paths:
            return None
        if not token:
            return Grant(MISSING)
        found = self.keys.read(token, client)
        if found is None or not self._admits(found, signed_paths):
            fault = self.keys.fault(token, signed_paths[0], client) or NOT_VALID
            return Grant(fault.line)
        ends = found.expires + self._grace
        # A playlist that was answered in time leads to media, whose requests come later.
        is_media = path.startswith(("/live/", "/vod/")) and not path.endswith(PLAYLISTS)
        is_stream = path == signed_paths[0] and path.startswith(("/radio/", "/events/"))
        grant = Grant(
            "",
            ends if is_media else found.expires,
            ends,
            found.label,
            # A station's playlist files and titles don't count as sessions.
            found.name if is_stream or path.startswith(("/live/", "/vod/", "/media/")) else "",
            found.expires,
            is_stream,
            found.digest,
        )
        if time.time() >= grant.until:
            return grant._replace(refusal=EXPIRED.line)
        if not query or found.allows_clips or not has_clip(query):
            return grant
        # A picture shows no more than the live playlists, which the token is enough for.
        if self.plays(path, query):
            return grant._replace(is_momentary=True)
        return grant._replace(refusal=NO_CLIPS)

    def _admits(self, token: Token, signed_paths: Iterable[str]) -> bool:
        """Return whether a token is valid for an address: that of a title is for what its playlists name."""
        every = [one for path in signed_paths for one in (path, _of_title(path)) if one]
        return any(token.covers(one) for one in every)

    def may_fetch(self, token: Token | None, path: str) -> bool:
        """Return whether the holder of a token may fetch an address.

        Args:
            token: None without one that hasn't expired.
            path: decoded, without token and query.
        """
        signed_paths = self.protected.signed_paths(path)
        return not signed_paths or (token is not None and self._admits(token, signed_paths))

    def may_clip(self, token: Token | None, path: str) -> bool:
        """Return whether the holder of a token may fetch parts of an address, as `may_fetch`."""
        if not self.protected.signed_paths(path):
            return True
        return token is not None and token.allows_clips and self.may_fetch(token, path)

    def session(self, grant: Grant, client: str, agent: str) -> ViewerSession | str | None:
        """Return the session of a request, or the reason why there is none; None where it isn't counted.

        Args:
            client: the address of the client.
            agent: its User-Agent.
        """
        if self.sessions is None or not grant.name:
            return None
        name, label = grant.name, grant.label
        return self.sessions.enter(name, label, grant.expires, client, agent, is_stream=grant.is_stream)

    def shows(self, token: Token | None, *paths: str, covered_alone: bool = False) -> bool:
        """Return whether lists name something to the holder of a token, which has one of these addresses.

        Args:
            token: None without one that hasn't expired.
            paths: decoded, without token and query.
            covered_alone: whether what everybody may fetch isn't listed either, unless the token covers it.
        """
        if covered_alone:
            return token is not None and any(token.covers(path) for path in paths)
        signed = [self.protected.signed_paths(one) for one in paths]
        if not all(signed):
            return True
        return token is not None and any(token.covers(path) for several in signed for path in several)


def _of_title(path: str) -> str:
    """Return the address of a title's file as that of the title; empty for any other address."""
    if not path.startswith(PREFIX):
        return ""
    address = find_address(quote(path).encode())
    # Only the film's own part is one: a folder may be named like a title's file.
    film = path.removeprefix(PREFIX) if address is None else address.film
    title = _title_of(film)
    return f"{PREFIX}{title}{path.removeprefix(PREFIX + film)}" if title else ""


def _title_of(path: str) -> str:
    """Return the path of the title to which a file of this name may belong; empty for any other name."""
    folder, slash, name = path.rpartition("/")
    found = RENDITION.fullmatch(name)
    return "" if found is None else f"{folder}{slash}{found['title']}"


def _spelled(folder: str) -> str:
    return "/".join(part.rstrip(". ").casefold() for part in folder.split("/"))
