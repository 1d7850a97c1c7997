"""Generates passwords, keys and tokens that are not configured, and keeps them in the data folder.

Of publish keys it keeps only hashes. Their file is replaced as a whole: a crash leaves the former one.
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
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from origin.access.key_hash import KeyHash
from origin.config.errors import CommandError
from origin.config.options import Config, event_channels, has_signed
from origin.config.stations import kind
from packager.safe_files import DataFolder
from packager.sources.published_source import PUBLISH

NAME = ".secrets.toml"
"""File in the data folder. Names with a leading dot are never served, even from a library."""

SECRET_BYTES = 18
"""Random bytes of a secret: 144 bits, 24 letters."""

MAX_FILE_BYTES = 1 << 20

MODE = 0o600
"""Readable by the owner alone."""

ADMIN_TOKEN = "server.admin_token"  # noqa: S105  # a name

ACCESS_KEY = "access.keys"

ACCESS_KEY_ID = "made"
"""The identifier of a generated key of signed addresses."""

MOST_REPLACEMENTS = 100
"""Most replacements of the file by other servers while it is being opened."""

_SECRET = re.compile(r"[A-Za-z0-9_-]{16,256}")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_HEADER = b"# What Headwater has made: of publish keys the hashes. Whose line is removed, is made anew.\n"


class SecretsError(CommandError):
    """The file isn't to be trusted; the text is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class MadeSecret:
    """A secret that was generated at this start, to be shown once.

    Attributes:
        name: ``server.admin_token``, ``access.keys``, ``radio.NAME.source_password``,
            ``events.NAME.publish_token``, ``relay.NAME.token``, or ``live.NAME.publish_key``.
        file: where it, or its hash, is kept; None if it isn't.
        is_shown_again: whether each start shows it, as the demo's do.
    """

    name: str
    text: str
    file: Path | None
    is_shown_again: bool = False


@dataclass(frozen=True, slots=True)
class StartSecrets:
    """A configuration with generated secrets in the place of missing ones.

    Attributes:
        config: with all secrets whose text is known.
        made: the secrets that were generated now.
        made_keys: the publish keys that aren't configured.
    """

    config: Config
    made: tuple[MadeSecret, ...]
    made_keys: MadeKeys


@dataclass(frozen=True, slots=True)
class MadeKeys:
    """The publish keys that aren't configured.

    Attributes:
        hashes: the hashes of keys that an earlier start made, by the channel's name.
        file: where their hashes are kept; None if they aren't.
    """

    channels: frozenset[str] = frozenset()
    hashes: Mapping[str, KeyHash] = field(default_factory=dict)
    file: Path | None = None

    def renew(self, channel: str) -> str:
        """Make another key of a channel and keep its hash. Blocks.

        Raises:
            SecretsError: the file isn't to be trusted.
            OSError: it can't be read or written.
        """
        key = secrets.token_urlsafe(SECRET_BYTES)
        if self.file is not None:
            _keep(self.file, _key_name(channel), str(KeyHash.of(key)))
        return key


def _keep(file: Path, name: str, text: str) -> None:
    with _opened(file) as descriptor:
        _write(file, _read(descriptor, file) | {name: text})


def with_secrets(config: Config, demo_folder: Path | None = None) -> StartSecrets:
    """Fill in missing secrets of a configuration: kept ones, or new ones. Blocks.

    Args:
        demo_folder: where a demo keeps its secrets, each in plain; None for another start, or where it has a
            configured data folder.

    Raises:
        SecretsError: the file in the data folder isn't to be trusted.
        OSError: it can't be read or written; its ``filename`` is set.
    """
    names = list(_lacking(config))
    channels = frozenset(channel for name in names if (channel := live_channel_of(name)) is not None)
    if not names:
        return StartSecrets(config, (), MadeKeys())
    if demo_folder is not None:
        file = demo_folder / NAME
        known, _ = _kept(file, names, in_plain=True)
        made = {name: text for name, text in known.items() if KeyHash.read(text) is None}
    elif config.server.data:
        file = Path(config.server.data).expanduser() / NAME
        known, made = _kept(file, names)
    else:
        known = made = {name: secrets.token_urlsafe(SECRET_BYTES) for name in names}
        file = None
    hashes = {name: kept for name, text in known.items() if (kept := KeyHash.read(text)) is not None}
    texts = {name: text for name, text in known.items() if name not in hashes}
    by_channel = {live_channel_of(name) or "": kept for name, kept in hashes.items()}
    is_shown_again = demo_folder is not None
    return StartSecrets(
        _filled(config, texts),
        tuple(MadeSecret(name, text, file, is_shown_again) for name, text in made.items()),
        MadeKeys(channels, by_channel, file),
    )


def with_admin_token(found: StartSecrets, token: str) -> StartSecrets:
    """Put the administrator's token of a cluster in the place of a node's own, which it had made. Blocks.

    Raises:
        SecretsError: the file in the data folder isn't to be trusted.
        OSError: it can't be read or written; its ``filename`` is set.
    """
    if not _SECRET.fullmatch(token) or token == found.config.server.admin_token:
        return found
    if found.config.server.data:
        _keep(Path(found.config.server.data).expanduser() / NAME, ADMIN_TOKEN, token)
    server = msgspec.structs.replace(found.config.server, admin_token=token)
    made = tuple(replace(one, text=token) if one.name == ADMIN_TOKEN else one for one in found.made)
    return replace(found, config=msgspec.structs.replace(found.config, server=server), made=made)


def signing_keys(config: Config, folder: DataFolder | None) -> tuple[str, ...]:
    """Return the keys of signed addresses; a server's own is read, or made, in its folder. Blocks.

    Args:
        folder: of the server's secrets; None where it keeps none.

    Raises:
        SecretsError: the file in the folder isn't to be trusted, or nothing says where the key is.
        OSError: it can't be read or written; its ``filename`` is set.
    """
    if config.access.keys:
        return config.access.keys
    if not has_signed(config):
        raise SecretsError(
            'nothing needs a token: set access = "signed" of a folder, channel or station, or access.keys'
        )
    if folder is None:
        raise SecretsError("no key is kept: set access.keys, or server.data")
    known, _ = _kept(folder.root / NAME, [ACCESS_KEY])
    return _filled(config, known).access.keys


def with_kept_secrets(config: Config, folder: DataFolder | None) -> Config:
    """Fill in those missing secrets that a server keeps in plain; none is made. Blocks.

    Args:
        folder: of the server's secrets; None where it keeps none.

    Raises:
        SecretsError: the file in the folder isn't to be trusted.
        OSError: it can't be read.
    """
    if folder is None or not (file := folder.root / NAME).exists():
        return config
    with _opened(file) as descriptor:
        known = _read(descriptor, file)
    lacking = {*_lacking(config), *(() if config.server.admin_token else (ADMIN_TOKEN,))}
    return _filled(
        config, {name: known[name] for name in lacking & known.keys() if not KeyHash.read(known[name])}
    )


def station_of(name: str) -> str | None:
    """Return the station of a source password by the name of the secret; None for another secret."""
    found = re.fullmatch(r"radio\.(.+)\.source_password", name)
    return found[1] if found else None


def event_channel_of(name: str) -> str | None:
    """Return the event channel of a publish token by the name of the secret; None for another secret."""
    found = re.fullmatch(r"events\.(.+)\.publish_token", name)
    return found[1] if found else None


def relay_of(name: str) -> str | None:
    """Return the relay of a token of callers by the name of the secret; None for another secret."""
    found = re.fullmatch(r"relay\.(.+)\.token", name)
    return found[1] if found else None


def live_channel_of(name: str) -> str | None:
    """Return the live channel of a publish key by the name of the secret; None for another secret."""
    found = re.fullmatch(r"live\.(.+)\.publish_key", name)
    return found[1] if found else None


def _lacking(config: Config) -> Iterator[str]:
    stations = [station for station in config.radio if kind(station) == "publish"]
    needs_admin = config.live or stations or config.server.protected or has_signed(config)
    if not config.server.admin_token and needs_admin:
        yield ADMIN_TOKEN
    if not config.access.keys and has_signed(config):
        yield ACCESS_KEY
    for station in stations:
        if not station.source_password:
            yield _password_name(station.name)
    for channel in event_channels(config):
        if not channel.publish_token:
            yield _token_name(channel.name)
    for relay in config.relay:
        if not relay.token:
            yield _relay_token_name(relay.name)
    for live in config.live:
        if live.source == PUBLISH and not live.publish_key:
            yield _key_name(live.name)


def _key_name(channel: str) -> str:
    return f"live.{channel}.publish_key"


def _token_name(channel: str) -> str:
    return f"events.{channel}.publish_token"


def _relay_token_name(relay: str) -> str:
    return f"relay.{relay}.token"


def _password_name(station: str) -> str:
    return f"radio.{station}.source_password"


def _filled(config: Config, known: Mapping[str, str]) -> Config:
    token = known.get(ADMIN_TOKEN, config.server.admin_token)
    key = known.get(ACCESS_KEY)
    keys = config.access.keys if key is None else (f"{ACCESS_KEY_ID}:{key}",)
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
    relay = tuple(
        msgspec.structs.replace(one, token=known.get(_relay_token_name(one.name), one.token))
        for one in config.relay
    )
    live = tuple(
        msgspec.structs.replace(channel, publish_key=known.get(_key_name(channel.name), channel.publish_key))
        for channel in config.live
    )
    server = msgspec.structs.replace(config.server, admin_token=token)
    access = msgspec.structs.replace(config.access, keys=keys)
    return msgspec.structs.replace(
        config, server=server, access=access, radio=radio, events=events, relay=relay, live=live
    )


def _kept(
    file: Path, names: Iterable[str], *, in_plain: bool = False
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the secrets of these names, or their hashes, and those that were generated now."""
    try:
        file.parent.mkdir(0o700, parents=True, exist_ok=True)
        with _opened(file) as descriptor:
            known = _read(descriptor, file)
            made = {name: secrets.token_urlsafe(SECRET_BYTES) for name in names if name not in known}
            kept = known | made
            if not in_plain:
                kept = {name: _as_kept(name, text) for name, text in kept.items()}
            if kept != known:
                _write(file, kept)
    except OSError as error:
        advice = "set server.data to a folder that can be written, or each secret in the configuration"
        raise OSError(error.errno, f"{error.strerror}; {advice}", str(file)) from error
    return {name: made.get(name) or kept[name] for name in names}, made


def _as_kept(name: str, text: str) -> str:
    """Return the kept form of a secret; keys that earlier versions kept in plain are hashed."""
    is_key = live_channel_of(name) is not None and KeyHash.read(text) is None
    return str(KeyHash.of(text)) if is_key else text


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open and lock the file, creating it if necessary, and check that it can be trusted."""
    for _ in range(MOST_REPLACEMENTS):
        descriptor = _open(path)
        try:
            # Two servers that start at once must generate each secret only once.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            found = os.fstat(descriptor)
            if not found.st_nlink:
                continue  # another server has replaced it while this one waited
            _check(path, found)
            yield descriptor
            return
        finally:
            os.close(descriptor)
    raise SecretsError(f"{path}: it is replaced again and again")


def _open(path: Path) -> int:
    # Don't follow a symbolic link, and don't block on a pipe.
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return _create(path, flags)
    except FileExistsError:
        return os.open(path, flags)


def _create(path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, MODE)
    # Regardless of the umask.
    os.fchmod(descriptor, MODE)
    return descriptor


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


def _read(descriptor: int, path: Path) -> dict[str, str]:
    """Read the secrets, or their hashes, by name; a line without its end wasn't written to the end."""
    data = os.pread(descriptor, MAX_FILE_BYTES, 0)
    data = data[: data.rfind(b"\n") + 1]
    try:
        known = tomllib.loads(data.decode())
    except ValueError as error:
        advice = "mend the line, or remove the file, and secrets are made anew"
        raise SecretsError(f"{path}: not valid TOML: {error}; {advice}") from error
    for name, text in known.items():
        if not isinstance(text, str) or not _is_secret(name, text):
            advice = "16 to 256 letters, digits, '_', '-' are; without the line, one is made anew"
            raise SecretsError(f"{path}: {name!r} isn't a secret: {advice}")
    return known


def _is_secret(name: str, text: str) -> bool:
    is_hash = live_channel_of(name) is not None and KeyHash.read(text) is not None
    return is_hash or _SECRET.fullmatch(text) is not None


def _write(path: Path, kept: Mapping[str, str]) -> None:
    """Replace the file, which the caller has locked."""
    lines = b"".join(f'"{name}" = "{text}"\n'.encode() for name, text in kept.items())
    new = path.with_name(f"{NAME}.new")
    # A crash may have left an unfinished file.
    new.unlink(missing_ok=True)
    with os.fdopen(_create(new, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "wb") as file:
        file.write(_HEADER + lines)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
