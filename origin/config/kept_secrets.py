"""Generates passwords and tokens that are not configured, and keeps them in the data folder.

Their file is only ever appended to: a crash costs at most the line that was being written.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from origin.config.errors import CommandError
from origin.config.options import Config
from origin.config.stations import kind
from packager.sources.published import PUBLISH

NAME = ".secrets.toml"
"""File in the data folder. Names with a leading dot are never served, even from a library."""

SECRET_BYTES = 18
"""Random bytes of a secret: 144 bits, 24 letters."""

MAX_FILE_BYTES = 1 << 20

MODE = 0o600
"""Readable by the owner alone."""

ADMIN_TOKEN = "server.admin_token"  # noqa: S105  # a name

_SECRET = re.compile(r"[A-Za-z0-9_-]{16,256}")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_HEADER = b"# Passwords and tokens that Headwater has made. Whose line is removed, is made anew.\n"


class SecretsError(CommandError):
    """The file isn't to be trusted; the text is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class MadeSecret:
    """A secret that was generated at this start, to be shown once.

    Attributes:
        name: ``server.admin_token``, ``radio.NAME.source_password``, ``events.NAME.publish_token``, or
            ``live.NAME.publish_key``.
        text: the secret.
        file: where it is kept; None if it isn't.
    """

    name: str
    text: str
    file: Path | None


def with_secrets(config: Config) -> tuple[Config, tuple[MadeSecret, ...]]:
    """Fill in missing secrets of a configuration: kept ones, or new ones. Blocks.

    Returns:
        The whole configuration, and the secrets that are new.

    Raises:
        SecretsError: the file in the data folder isn't to be trusted.
        OSError: it can't be read or written; its ``filename`` is set.
    """
    names = list(_lacking(config))
    if not names:
        return config, ()
    if config.server.data:
        folder = Path(config.server.data).expanduser()
        known, made = _kept(folder, names)
        file = folder / NAME
    else:
        known = made = {name: secrets.token_urlsafe(SECRET_BYTES) for name in names}
        file = None
    return _filled(config, known), tuple(MadeSecret(name, text, file) for name, text in made.items())


def station_of(name: str) -> str | None:
    """Return the station of a source password by the name of the secret; None for another secret."""
    found = re.fullmatch(r"radio\.(.+)\.source_password", name)
    return found[1] if found else None


def event_channel_of(name: str) -> str | None:
    """Return the event channel of a publish token by the name of the secret; None for another secret."""
    found = re.fullmatch(r"events\.(.+)\.publish_token", name)
    return found[1] if found else None


def live_channel_of(name: str) -> str | None:
    """Return the live channel of a publish key by the name of the secret; None for another secret."""
    found = re.fullmatch(r"live\.(.+)\.publish_key", name)
    return found[1] if found else None


def _lacking(config: Config) -> Iterator[str]:
    stations = [station for station in config.radio if kind(station) == "publish"]
    if not config.server.admin_token and (config.live or stations or config.server.protected):
        yield ADMIN_TOKEN
    for station in stations:
        if not station.source_password:
            yield _password_name(station.name)
    for channel in config.events:
        if not channel.publish_token:
            yield _token_name(channel.name)
    for live in config.live:
        if live.source == PUBLISH and not live.publish_key:
            yield _key_name(live.name)


def _key_name(channel: str) -> str:
    return f"live.{channel}.publish_key"


def _token_name(channel: str) -> str:
    return f"events.{channel}.publish_token"


def _password_name(station: str) -> str:
    return f"radio.{station}.source_password"


def _filled(config: Config, known: Mapping[str, str]) -> Config:
    token = known.get(ADMIN_TOKEN, config.server.admin_token)
    radio = tuple(
        msgspec.structs.replace(
            station, source_password=known.get(_password_name(station.name), station.source_password)
        )
        for station in config.radio
    )
    events = tuple(
        msgspec.structs.replace(
            channel, publish_token=known.get(_token_name(channel.name), channel.publish_token)
        )
        for channel in config.events
    )
    live = tuple(
        msgspec.structs.replace(channel, publish_key=known.get(_key_name(channel.name), channel.publish_key))
        for channel in config.live
    )
    server = msgspec.structs.replace(config.server, admin_token=token)
    return msgspec.structs.replace(config, server=server, radio=radio, events=events, live=live)


def _kept(folder: Path, names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the secrets of these names, and those that were generated now."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _opened(folder / NAME) as descriptor:
            known, end = _read(descriptor, folder / NAME)
            made = {name: secrets.token_urlsafe(SECRET_BYTES) for name in names if name not in known}
            if made:
                _add(descriptor, end, made)
    except OSError as error:
        advice = "set server.data to a folder that can be written, or each secret in the configuration"
        raise OSError(error.errno, f"{error.strerror}; {advice}", str(folder / NAME)) from error
    return {name: known.get(name) or made[name] for name in names}, made


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open and lock the file, creating it if necessary, and check that it can be trusted."""
    # Don't follow a symbolic link, and don't block on a pipe.
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, MODE)
        # Regardless of the umask.
        os.fchmod(descriptor, MODE)
    except FileExistsError:
        descriptor = os.open(path, flags)
    try:
        _check(path, os.fstat(descriptor))
        # Two servers that start at once must generate each secret only once.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _check(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise SecretsError(f"{path}: not an ordinary file; remove it, and secrets are made anew")
    if found.st_uid not in (os.geteuid(), path.parent.stat().st_uid):
        raise SecretsError(f"{path}: another user's; remove it, and secrets are made anew")
    if found.st_mode & _OTHERS:
        advice = "others may have read it: remove it, and secrets are made anew"
        raise SecretsError(f"{path}: its mode is {stat.S_IMODE(found.st_mode):o}, not 600; {advice}")
    if found.st_size > MAX_FILE_BYTES:
        advice = "remove it, and secrets are made anew"
        raise SecretsError(f"{path}: longer than {MAX_FILE_BYTES} bytes; {advice}")


def _read(descriptor: int, path: Path) -> tuple[dict[str, str], int]:
    """Read the secrets by name, and the offset behind the last complete line."""
    data = os.pread(descriptor, MAX_FILE_BYTES, 0)
    data = data[: data.rfind(b"\n") + 1]
    try:
        known = tomllib.loads(data.decode())
    except ValueError as error:
        advice = "mend the line, or remove the file, and secrets are made anew"
        raise SecretsError(f"{path}: not valid TOML: {error}; {advice}") from error
    for name, text in known.items():
        if not isinstance(text, str) or not _SECRET.fullmatch(text):
            advice = "16 to 256 letters, digits, '_', '-' are; without the line, one is made anew"
            raise SecretsError(f"{path}: {name!r} isn't a secret: {advice}")
    return known, len(data)


def _add(descriptor: int, end: int, made: Mapping[str, str]) -> None:
    lines = b"".join(f'"{name}" = "{text}"\n'.encode() for name, text in made.items())
    data = lines if end else _HEADER + lines
    os.ftruncate(descriptor, end)
    while data:
        written = os.pwrite(descriptor, data, end)
        data, end = data[written:], end + written
    os.fsync(descriptor)
