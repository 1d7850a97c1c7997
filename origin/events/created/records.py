"""The facts about event channels that are made at run time, as they are kept in memory and on disk. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from media.errors import MalformedError
from origin.access.key_hash import KeyHash
from origin.http.channel_patterns import is_name
from packager.reader_guard import ReaderGuard

ADMINISTRATOR = "admin"
"""The creator of channels that were made with the admin token."""

TEMPLATE = "template"
"""The creator of channels that were made by their first event, with a key of the configuration."""

PUBLISHER = "publisher"
"""The creator of channels that were made by their first event, with a token."""

RELAY = "relay:"
"""Beginning of the creators of answers' channels, with the name of the relay behind it."""

SUBJECT = "sub:"
"""Beginning of creators that are named by a JSON Web Token."""

NAMELESS = "token:"
"""Beginning of creators whose JSON Web Token names nobody; the token's digest follows, for the limits."""


class ChannelSettings(Struct, frozen=True):
    """The settings of channels that are made at run time; channels with the same share one object.

    Attributes:
        template: the pattern whose other options the channels have; empty for none.
        keep: most events.
        keep_for: seconds; 0 for no such limit.
        history: seconds for which events survive a restart; 0 for none.
    """

    template: str = ""
    keep: int = 1000
    keep_for: float = 0.0
    history: float = 0.0


@dataclass(slots=True, eq=False)
class CreatedChannel:
    """A channel that was made at run time, without its events.

    Attributes:
        creator: `ADMINISTRATOR`, `PUBLISHER`, `SUBJECT` or `RELAY` with a name, or `NAMELESS` with a digest.
        made: seconds since the epoch of Unix, as all times here.
        expires: when the channel ends; infinite for never.
        used: when a client last came.
        due: when the channel is to be looked at, as it ends or has events that are too old.
        read_token: None for a channel without tokens of its own.
        alias: of the channel of an answer, its API and its id there.
        stop: ends what this process alone publishes to the channel, for a reason; None where clients publish,
            or nobody any more.
        number: in a cluster, tells the channel from others that have had its name.
        node: in a cluster, the node that publishes to the channel alone; empty where clients do.
        stopped: in a cluster, why that node is to publish no more; empty while it may.
        is_own: whether this process is that node, and sends what it changes to the others.
        revision: in a cluster, how often the channel was changed.
    """

    name: str
    creator: str
    made: float
    settings: ChannelSettings
    expires: float = math.inf
    used: float = 0.0
    due: float = math.inf
    read_token: KeyHash | None = field(default=None, repr=False)
    publish_token: KeyHash | None = field(default=None, repr=False)
    alias: str = ""
    stop: Callable[[str], None] | None = field(default=None, repr=False)
    number: str = ""
    revision: int = 0
    node: str = ""
    stopped: str = ""
    is_own: bool = False

    @property
    def stream(self) -> str:
        """Name of the channel's events in a cluster's Redis."""
        return f"{self.name}@{self.number}"

    @property
    def is_answer(self) -> bool:
        """Whether a relay publishes its answer to the channel, and no client does."""
        return self.creator.startswith(RELAY)

    @property
    def has_alias(self) -> bool:
        """Whether an answer's id in its API is known."""
        return bool(self.alias) and not self.alias.endswith("/")

    @property
    def is_stored(self) -> bool:
        """Whether a restart keeps it: of an answer without history there would be nothing to read."""
        return not self.is_answer or bool(self.settings.history)


class _RecordsHead(Struct, frozen=True, forbid_unknown_fields=True):
    """The first line of a file of records, which says what the file is."""

    headwater: str
    version: int


class _MadeLine(Struct, frozen=True, tag="made", forbid_unknown_fields=True, omit_defaults=True):
    """The line of a channel that was made or changed."""

    name: str
    creator: str
    at: float
    settings: ChannelSettings
    expires: float | None = None
    read: str = ""
    publish: str = ""
    alias: str = ""
    number: str = ""
    revision: int = 0
    node: str = ""
    stopped: str = ""


class GoneLine(Struct, frozen=True, tag="gone", forbid_unknown_fields=True, omit_defaults=True):
    """The line of a channel that was deleted, or has ended.

    Attributes:
        until: for how long it is answered that the channel is gone.
        number: of the channel, in a cluster.
    """

    name: str
    until: float
    number: str = ""


HEAD = msgspec.json.encode(_RecordsHead("created event channels", 1)) + b"\n"

_encode = msgspec.json.Encoder().encode
_LINE: msgspec.json.Decoder[_MadeLine | GoneLine] = msgspec.json.Decoder(_MadeLine | GoneLine)


def line_of(channel: CreatedChannel) -> bytes:
    """Write the line of a channel that was made or changed."""
    expires = None if math.isinf(channel.expires) else channel.expires
    read, publish = (str(one or "") for one in (channel.read_token, channel.publish_token))
    line = _MadeLine(
        *(channel.name, channel.creator, channel.made, channel.settings, expires, read, publish),
        *(channel.alias, channel.number, channel.revision, channel.node, channel.stopped),
    )
    return _encode(line) + b"\n"


def line_of_gone(name: str, until: float, number: str = "") -> bytes:
    """Write the line of a channel that is gone."""
    return _encode(GoneLine(name, until, number)) + b"\n"


class Records:
    """The channels that were made at run time, as the lines of a file leave them.

    Args:
        most: channels, and channels that are gone.

    Attributes:
        channels: by name, in the order in which they were made or used.
        gone: when it is forgotten that a channel was there, by its name.
        lines: number of lines that were read.
        unreadable: lines that no server has written.
        beyond: number of lines of channels for which there is no room.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._settings: dict[ChannelSettings, ChannelSettings] = {}
        self._creators: dict[str, str] = {}
        self.channels: dict[str, CreatedChannel] = {}
        self.gone: dict[str, float] = {}
        self.lines = self.unreadable = self.beyond = 0

    def find(self, name: str, now: float) -> CreatedChannel | None:
        """Return the channel of a name; None for none, or for one whose time is over."""
        found = self.channels.get(name)
        return None if found is None or found.expires <= now else found

    def note_use(self, channel: CreatedChannel, now: float) -> None:
        """Note that a client has come, and put the channel behind all that were used before."""
        channel.used = now
        self.channels[channel.name] = self.channels.pop(channel.name)

    def begin_from(self, stored: Records) -> None:
        """Have the channels of stored records, and no others."""
        self.channels, self.gone = stored.channels, stored.gone

    def read(self, line: bytes) -> None:
        """Read the next line behind the head."""
        self.lines += 1
        try:
            with ReaderGuard("created channels"):
                self._read(line)
        except MalformedError:
            self.unreadable += 1

    def _read(self, text: bytes) -> None:
        found = self.decoded(text)
        if isinstance(found, GoneLine):
            self.channels.pop(found.name, None)
            if len(self.gone) < self._most:
                self.gone[found.name] = found.until
            return
        self.gone.pop(found.name, None)
        if found.name not in self.channels and len(self.channels) >= self._most:
            self.beyond += 1
            return
        self.channels[found.name] = found

    def decoded(self, text: bytes) -> CreatedChannel | GoneLine:
        """Return the channel of a line, or that it is gone.

        Raises:
            MalformedError: no server has written the line.
        """
        try:
            line = _LINE.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedError(f"no line of a channel: {error}") from None
        if not is_name(line.name):
            raise MalformedError(f"no name of a channel: {line.name!r}")
        if isinstance(line, GoneLine):
            return line
        return CreatedChannel(
            line.name,
            self._creators.setdefault(line.creator, line.creator),
            line.at,
            self.shared(line.settings),
            math.inf if line.expires is None else line.expires,
            line.at,
            read_token=KeyHash.read(line.read),
            publish_token=KeyHash.read(line.publish),
            alias=line.alias,
            number=line.number,
            revision=line.revision,
            node=line.node,
            stopped=line.stopped,
        )

    def shared(self, settings: ChannelSettings) -> ChannelSettings:
        """Return the one object of equal settings."""
        if len(self._settings) > self._most:
            self._settings.clear()
        return self._settings.setdefault(settings, settings)
