"""The configuration: frozen, validated options from defaults, a file, the environment and the command line.

Later sources win: defaults < ``headwater.toml`` < ``HEADWATER_SECTION_KEY`` < options. A key that isn't known
or a value of the wrong type is one ``ConfigError`` that names the source, the key and what is allowed.
"""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from origin.radio import plan

ENVIRONMENT_PREFIX = "HEADWATER_"

Name = Annotated[
    str, Meta(pattern=r"^(?!\.+$)[A-Za-z0-9._-]{1,64}$", description="1 to 64 letters, digits, '.', '_', '-'")
]
Language = Annotated[
    str, Meta(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}$", description="a language such as en, pt-BR")
]
Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86400)]
Count = Annotated[int, Meta(ge=1)]


class ConfigError(Exception):
    """The configuration is wrong; the text is one line that names the source, the key and what is allowed."""


class ServerOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Where it listens and whom it answers."""

    host: str = "127.0.0.1"
    port: Port = 8000
    rtmp_port: Port = 0
    srt_port: Port = 0
    data: str = ""
    """Folder in which live channels keep their numbers and their DVR; empty: nothing is kept."""
    allow_origin: str = "*"
    """Access-Control-Allow-Origin of media and lists."""


class LibraryOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The folder of files."""

    path: str = "library"
    follow_symlinks: bool = False
    max_age: Annotated[int, Meta(ge=0)] = 3600
    """Seconds for which caches may keep a file."""


class LiveOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """One live channel."""

    name: Name
    source: str = "testsrc"
    ladder: tuple[Literal["source", "1080p", "720p", "480p", "360p", "240p"], ...] = ("720p", "360p")
    """Renditions; ``source`` is the source's own picture and sound as they come, not encoded again."""
    part_duration: Annotated[float, Meta(ge=0.1, le=2)] = 0.333
    segment_duration: Annotated[float, Meta(ge=1, le=10)] = 2.0
    dvr: Annotated[
        str, Meta(pattern=r"^[0-9]+(s|m|h|d)?$", description="a duration such as 90s, 30m, 2h")
    ] = "0"
    """How long segments stay in the playlist beyond the live window: ``90s``, ``30m``, ``2h``, ``1d``."""
    dvr_size: Annotated[
        str, Meta(pattern=r"^[0-9]+(M|G|T)?$", description="a number of bytes such as 500M, 20G, 1T")
    ] = "0"
    """Most that those segments may take on disk, all renditions together: ``500M``, ``20G``; 0: no limit."""
    event: bool = False
    """Whether a file is played once, and its end is the end of an event, which is recorded."""
    recordings: Annotated[
        str, Meta(pattern=r"^[0-9]+(s|m|h|d)?$", description="a duration such as 12h, 30d; 0: without end")
    ] = "0"
    """How long recordings of events that are over stay: ``12h``, ``30d``; 0: without end."""
    recordings_size: (
        Annotated[str, Meta(pattern=r"^[0-9]+(M|G|T)?$", description="a number of bytes such as 500M, 20G")]
        | None
    ) = None
    """Most that they may take on disk, the oldest go first; as much as ``dvr_size`` when absent."""
    captions: tuple[Language, ...] = ()
    """Languages in which captions may be published."""
    publish_key: str | None = None


class RadioOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """One radio station (a mount)."""

    name: Name
    source: str = "folder"
    """``folder``, ``publish`` (Icecast's source clients), ``relay`` of ``url``, or the address to relay."""
    folder: str = "music"
    """A folder of MP3s, a playlist (M3U), or one MP3."""
    bitrate: Literal[32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320] = 128
    sample_rate: Literal[32000, 44100, 48000] = 44100
    shuffle: bool = False
    loudness: Annotated[float, Meta(ge=-40, le=-5)] | None = None
    """LUFS (EBU R 128) that all tracks of a folder are brought to; those that differ are encoded again."""
    crossfade: Annotated[float, Meta(ge=0, le=15)] = 0.0
    """Seconds in which a track's end and the next one's beginning are heard together; all are encoded."""
    title: str | None = None
    genre: str | None = None
    url: str | None = None
    source_password: str | None = None
    """What source clients of user ``source`` need; made and shown at the start when absent."""
    listener_password: str | None = None
    """What listeners need, or an address signed with it; such a station isn't in HLS."""
    fallback: str | None = None
    """Another station, or a file, that is heard while there is no source."""
    on_demand: bool = False
    """Whether a relay is only asked for while somebody listens."""
    hls: bool = True
    """Whether ``/live/NAME/master.m3u8`` has it as HLS, too."""
    hls_bitrates: Annotated[tuple[Annotated[int, Meta(ge=16, le=320)], ...], Meta(min_length=1)] = (64, 128)
    """Of the AAC there, in kbit/s."""
    hls_on_demand: bool = True
    """Whether it is only encoded while somebody follows it."""
    lagging: Literal["drop", "skip"] = "drop"
    """What happens to a listener that is ``limits.queue_bytes`` behind."""


class EventOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """One event channel."""

    name: Name
    publish_token: str | None = None
    relay: str | None = None


class LimitOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Every limit that a person might want to turn; times in seconds."""

    header_seconds: Seconds = 15.0
    header_bytes: Count = 32 << 10
    header_fields: Count = 100
    target_bytes: Count = 8 << 10
    stalled_seconds: Seconds = 60.0
    """A client that takes none of its bytes for so long is dropped."""
    unacknowledged_seconds: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    """A client whose system takes or confirms nothing for so long is gone (TCP_USER_TIMEOUT)."""
    keep_alive_seconds: Seconds = 30.0
    shutdown_seconds: Annotated[float, Meta(gt=0, le=60)] = 1.5
    """How long running downloads may go on after SIGTERM."""
    blocked_requests: Count = 10_000
    """Requests per live rendition that may wait for a part at once."""
    listeners: Count = 5_000
    """Listeners per station."""
    all_listeners: Count = 8_000
    """Listeners of all stations together."""
    burst_bytes: Count = 64 << 10
    queue_bytes: Count = 512 << 10
    """How far behind a listener may fall before it is dropped."""
    source_seconds: Annotated[float, Meta(ge=1, le=600)] = 10.0
    """A station's source that sends nothing for so long is thrown out."""
    hold_seconds: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    """How long listeners are kept when their station has nothing to give."""
    event_readers: Count = 5_000
    """Readers of one event channel."""
    event_queue_bytes: Count = 64 << 10
    """How far behind a reader may fall before it is dropped."""
    event_history: Annotated[int, Meta(ge=1, le=1000)] = 20
    """Events, such as a station's titles, that are kept for readers who come later."""
    hls_idle_seconds: Annotated[float, Meta(ge=10, le=86400)] = 90.0
    """How long a station is encoded for HLS when nobody follows it any more."""
    connections: Count = 8192
    """Open at once; those beyond get 503. Fewer where the system allows too few descriptors."""
    open_files: Annotated[int, Meta(ge=0)] = 256
    """Files of the library that stay open between requests."""
    open_file_seconds: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """Time for which such a file is served without being looked up again."""
    metadata_bytes: Count = 16 << 10
    """Body of a request that publishes timed metadata."""
    captions_bytes: Count = 1 << 20
    """A WebVTT file that is published; and a channel's captions of one language that aren't over."""
    vod_index_bytes: Count = 256 << 20
    """Memory for the sample tables of recently played files."""


class LogOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """What is logged, and how it is written."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    requests: bool = False
    """Whether each request is logged."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """All options."""

    server: ServerOptions = ServerOptions()
    library: LibraryOptions = LibraryOptions()
    live: tuple[LiveOptions, ...] = ()
    radio: tuple[RadioOptions, ...] = ()
    events: tuple[EventOptions, ...] = ()
    limits: LimitOptions = LimitOptions()
    log: LogOptions = LogOptions()


Layer = Mapping[str, Any]
"""One source's values: section name → table, or list of tables for live, radio and events."""


def load(path: Path | None, environment: Mapping[str, str], options: Layer) -> Config:
    """Read and validate all sources.

    Args:
        path: the TOML file, or None.
        environment: variables, of which those with the prefix count.
        options: what the command line set.

    Raises:
        ConfigError: a source can't be read, or has an unknown key or a wrong value.
    """
    merged: dict[str, Any] = {}
    layers = [] if path is None else [(str(path), read_file(path))]
    layers += [("the environment", read_environment(environment)), ("the command line", options)]
    for origin, layer in layers:
        validate(layer, origin)
        for section, value in layer.items():
            merged[section] = {**merged.get(section, {}), **value} if isinstance(value, Mapping) else value
    config = validate(merged, "the configuration")
    _check_names(config)
    for fault in plan.faults(config.radio, config.server):
        raise ConfigError(fault)
    return config


def read_file(path: Path) -> Layer:
    """Read a TOML file.

    Raises:
        ConfigError: it isn't there, can't be read, or isn't TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def read_environment(environment: Mapping[str, str]) -> Layer:
    """Read ``HEADWATER_SECTION_KEY`` variables; values are text and converted by the key's type.

    Raises:
        ConfigError: a variable with the prefix names no key.
    """
    layer: dict[str, dict[str, Any]] = {}
    for variable in sorted(environment):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        section, _, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        table = _tables().get(section)
        if table is None or key not in table.__struct_fields__:
            sections = ", ".join(f"{ENVIRONMENT_PREFIX}{name.upper()}_…" for name in _tables())
            known = _allowed_keys(table) if table else sections
            raise ConfigError(f"{variable}: no such option; allowed: {known}")
        kind = typing.get_type_hints(table, include_extras=True)[key]
        try:
            value = msgspec.convert(environment[variable], kind, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{variable}: {_reason(str(error), kind)}") from error
        layer.setdefault(section, {})[key] = value
    return layer


def validate(layer: Layer, origin: str) -> Config:
    """Check one source's values against the options.

    Args:
        layer: the values.
        origin: what to call the source in an error.

    Raises:
        ConfigError: naming the key and what is allowed.
    """
    try:
        return msgspec.convert(layer, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {_explain(str(error))}") from error


def as_toml(config: Config) -> str:
    """Write the configuration as TOML, secrets blotted out; what ``--print-config`` shows."""
    lines: list[str] = []
    for section in Config.__struct_fields__:
        value = getattr(config, section)
        tables = [value] if isinstance(value, Struct) else value
        for table in tables:
            lines.append(f"[{section}]" if isinstance(value, Struct) else f"[[{section}]]")
            lines += [
                f"{key} = {_toml_value(key, item)}"
                for key in table.__struct_fields__
                if (item := getattr(table, key)) is not None
            ]
            lines.append("")
    return "\n".join(lines)


def seconds(duration: str) -> float:
    """Read a duration such as ``90``, ``90s``, ``30m``, ``2h`` or ``1d``."""
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(duration[-1])
    return float(duration[:-1]) * unit if unit else float(duration)


def size(text: str) -> int:
    """Read a number of bytes such as ``1000``, ``500M``, ``20G`` or ``1T``, in powers of ten."""
    unit = {"M": 10**6, "G": 10**9, "T": 10**12}.get(text[-1])
    return int(text[:-1]) * unit if unit else int(text)


def _toml_value(key: str, value: object) -> str:
    if re.search("password|token|key", key):
        return '"********"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_value(key, item) for item in value) + "]"
    return msgspec.json.encode(value).decode("utf-8")


def _tables() -> dict[str, type[Struct]]:
    """The sections that are one table each, by name."""
    hints = typing.get_type_hints(Config)
    return {name: kind for name, kind in hints.items() if isinstance(kind, type) and issubclass(kind, Struct)}


def _allowed_keys(table: type[Struct]) -> str:
    return ", ".join(table.__struct_fields__)


def _explain(message: str) -> str:
    """Turn msgspec's "… - at `$.server.port`" into "server.port: …; allowed: …"."""
    reason, _, place = message.partition(" - at `$")
    place = place.rstrip("`").removeprefix(".")
    unknown = re.search(r"unknown field `(.*)`", reason)
    kind = _kind_at(place)
    if unknown is None:
        return f"{place}: {_reason(reason, kind)}"
    key = f"{place}.{unknown.group(1)}".removeprefix(".")
    return f"{key}: unknown key; allowed: {_allowed_keys(kind)}"


def _reason(message: str, kind: Any) -> str:
    values = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
    if values:
        return f"not possible; allowed: {', '.join(str(value) for value in values)}"
    if typing.get_origin(kind) is Annotated and "matching regex" in message:
        (meta,) = kind.__metadata__
        return f"not possible; allowed: {meta.description}"
    return message[:1].lower() + message[1:].replace("`", "'")


def _kind_at(place: str) -> Any:
    """Find the type behind a path such as ``live[0].ladder[1]``."""
    kind: Any = Config
    for step in re.findall(r"\w+|\[", place.replace("[...]", "[")):
        if step == "[":
            kind = typing.get_args(kind)[0]
        elif not step.isdigit():
            kind = typing.get_type_hints(kind, include_extras=True)[step]
    return kind


def _check_names(config: Config) -> None:
    for section, named in (("live", config.live), ("radio", config.radio), ("events", config.events)):
        names = [item.name for item in named]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"{section}: the name {name!r} is used twice; each {section} needs its own")
    for channel in config.live:
        languages = [language.lower() for language in channel.captions]
        if len(set(languages)) < len(languages):
            raise ConfigError(f"live: captions of {channel.name!r}: each language once")
