"""Makes what checks the tokens of addresses, and applies the keys of a configuration that is read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from media.errors import MalformedError
from origin.access.authentication import AdminToken
from origin.access.limits import AccessLimits
from origin.access.protected_addresses import ProtectedAddresses, TokenGuard
from origin.access.revocation_file import RevocationFile
from origin.access.token_keys import TokenKeys
from origin.access.viewer_sessions import SessionRecord, ViewerSessions
from origin.config.options import Config, TokenOptions, data_folder, event_channels, has_signed
from origin.config.stations import is_in_hls
from packager.reader_guard import ReaderGuard
from packager.replication.log_entries import read_message
from packager.threads import SHARED_THREADS

if TYPE_CHECKING:
    from origin.access.web_tokens import WebTokenKey
    from packager.cluster.node import ClusterNode

log = structlog.get_logger()

_RECORDS = msgspec.msgpack.Decoder(list[SessionRecord])


def make_token_keys(config: Config) -> TokenKeys:
    """Make the keys of tokens. Blocks.

    Raises:
        ValueError: a key can't be read; the text says why.
    """
    access = config.access
    return TokenKeys(access.keys, *_web_keys(access), access.jwt_audience, access.jwt_issuer)


def restored_revocations(config: Config, keys: TokenKeys) -> RevocationFile:
    """Make what keeps revocations of tokens, with those that the data folder has. Blocks.

    Raises:
        ValueError: the file can't be read; the text says why.
    """
    file = RevocationFile(keys.revocations, data_folder(config, "revocations"))
    file.restore()
    return file


async def take_token_keys(keys: TokenKeys, first: Config, new: Config) -> None:
    """Apply the keys of tokens of a configuration that is read again, if they can be used.

    Args:
        first: the configuration of the start, whose key stays if it was made.
    """
    try:
        web = await SHARED_THREADS.run(_web_keys, new.access)
    except ValueError as error:
        log.error("the changed keys of web tokens can't be used", reason=str(error))
    else:
        keys.replace(new.access.keys or first.access.keys, *web)


async def take_admin_token(admin: AdminToken, new: Config) -> None:
    """Apply the administrator's token of a configuration that is read again; one that was made stays."""
    if new.server.admin_token:
        admin.replace(new.server.admin_token)


def make_token_guard(config: Config, keys: TokenKeys, limits: AccessLimits) -> TokenGuard | None:
    """Make what checks tokens; None where no address needs one."""
    if not has_signed(config):
        return None
    access = config.access
    sessions: ViewerSessions | None = None
    if access.viewers_per_name:
        ends_oldest = access.takeover == "replace"
        sessions = ViewerSessions(access.viewers_per_name, limits, ends_oldest=ends_oldest)
    return TokenGuard(protected_addresses(config), keys, sessions, keeps_public=access.cache == "front")


async def take_access(guard: TokenGuard | None, new: Config) -> None:
    """Apply what needs a token in a configuration that is read again.

    Args:
        guard: None where nothing needed one at the start: requests aren't checked then.
    """
    if guard is not None:
        guard.protected.replace(protected_addresses(new))


def protected_addresses(config: Config) -> ProtectedAddresses:
    """Return the addresses that need a token."""
    library, access = config.library, config.access
    stations = {one.name: one.access == "signed" for one in config.radio}
    channels = stations | {one.name: one.access == "signed" for one in config.live}
    channels |= dict.fromkeys(access.channels, True)
    protected = ProtectedAddresses(
        library=library.access == "signed",
        folders={folder: one == "signed" for folder, one in library.folders.items()},
        channels=channels,
        recordings={
            one.name: channels[one.name]
            if one.recordings_access is None
            else one.recordings_access == "signed"
            for one in config.live
        },
        stations=stations,
        events={one.name: one.access == "signed" for one in event_channels(config)},
    )
    protected.simulcasts = frozenset(one.name for one in config.radio if is_in_hls(one, config))
    return protected


def share_sessions(sessions: ViewerSessions | None, node: ClusterNode | None) -> None:
    """Share viewers' sessions with the other machines of a cluster, as soon as the node runs."""
    if sessions is None or node is None:
        return
    # Here and not above: workers, which have no cluster, start faster without.
    from packager.cluster.broadcast import Broadcast

    feed = sessions.feed()

    async def next_message() -> bytes:
        return msgspec.msgpack.encode(await feed.changes())

    def merge(message: bytes) -> None:
        try:
            with ReaderGuard("sessions"):
                records = read_message(_RECORDS, message, "list of sessions")
                sessions.merge(records, feed)
        except MalformedError as error:
            log.warning("sessions of another node can't be read", reason=str(error))

    node.add(Broadcast(node.connection, node.token, "sessions", next_message, merge).run)


def share_revocations(keys: TokenKeys, node: ClusterNode | None) -> None:
    """Share revocations of tokens with the other machines of a cluster, as soon as the node runs."""
    if node is not None and keys:
        # Here and not above: workers, which have no cluster, start faster without.
        from origin.access.shared_revocations import SharedRevocations

        node.add(SharedRevocations(keys.revocations, node).run)


def _web_keys(access: TokenOptions) -> tuple[list[WebTokenKey], list[str]]:
    """Read the configured keys of web tokens; see `configured_keys`."""
    if not access.jwt_keys:
        return [], []
    # Here and not above: PyJWT and its kinds of keys are slow to import, and most servers have none.
    from origin.access.web_tokens import configured_keys

    return configured_keys(access.jwt_keys)
