"""The start of ``headwater serve``: checks the sandbox, changes the user, and runs the server."""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from origin.config.errors import CommandError
from origin.config.options import Config
from origin.server.tables.config_reload import reloading
from origin.system import malloc
from packager.concurrency import usable_cores
from packager.process import sandbox
from packager.process.ffmpeg_discovery import discover
from packager.process.limits import DEFAULT_TOOLS_LIMITS
from packager.threads import SHARED_THREADS

if TYPE_CHECKING:
    from origin.server.services.limits import Limits
    from origin.server.services.services import Services
    from origin.server.services.worker_interface import Workers, WorkerTls
    from origin.system.socket_activation import Sockets


DEMO_RTMP_PORT = 1935
"""The port at which encoders expect RTMP."""


def demo_rtmp_port(host: str) -> int:
    """Return the port at which the demo takes RTMP, or 0 where another program has it."""
    from origin.system.binding import BindError, bind

    try:
        sockets = bind(host, DEMO_RTMP_PORT, 0)
    except BindError:
        return 0
    try:
        # Several programs may be bound to a port; one listens.
        for sock in sockets:
            sock.listen()
    except OSError:
        return 0
    finally:
        for sock in sockets:
            sock.close()
    return DEMO_RTMP_PORT


def prepare(config: Config) -> Sockets | None:
    """Check the sandbox, and become the configured user; called before anything else.

    No thread or event loop runs yet, and none of that user's files has been touched.

    Returns:
        The sockets, which perhaps only the first user may bind; None if the user doesn't change.

    Raises:
        CommandError: the sandbox is incomplete but required, an address is taken, or the process can't become
            that user.
    """
    if config.server.require_sandbox and (lacking := sandbox.missing()):
        advice = "run it on a kernel that has them (Linux 5.13 and newer), or without that option"
        raise CommandError(f"server.require_sandbox: this system lacks {' and '.join(lacking)}; {advice}")
    if not config.server.user:
        return None
    from origin.system import privileges, socket_activation

    sockets = socket_activation.inherit_or_bind(config)
    privileges.become(config.server.user)
    return sockets


async def serve(
    config: Config,
    read: Callable[[], Config],
    bound: Sockets | None,
    *,
    demo: bool,
    own_library: bool,
    file: Path | None,
    limits: Limits | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    ffmpeg is asked for its abilities while the rest of the program is being imported, as both take their
    time.

    Args:
        read: reads the configuration again; it blocks.
        demo: whether to add the demo's channel and station, and its films if there is no library.
        own_library: whether the configuration names a library.
        file: the configuration file, if there is one.
        limits: limits that can't be configured; None: the usual ones.

    Raises:
        CommandError, ToolsError, DataInUseError, OSError: as ``serve.serve``.
    """
    malloc.configure()
    asking = asyncio.ensure_future(discover(limits=DEFAULT_TOOLS_LIMITS if limits is None else limits.tools))
    try:
        await SHARED_THREADS.run(importlib.import_module, "origin.server.serve")
        from origin.server import serve
        from origin.server.services.limits import Limits

        async with reloading(config, read) as reload:
            start = serve.ServerStart(
                reload=reload,
                demo=demo,
                own_library=own_library,
                files=() if file is None else (file,),
                limits=Limits() if limits is None else limits,
                make_workers=_make_workers if _count(config) > 1 else None,
            )
            await serve.serve(config, asking, bound, start)
    finally:
        asking.cancel()
        # The server has had the result, or has reported the error, so neither is raised again here.
        await asyncio.gather(asking, return_exceptions=True)


def _count(config: Config) -> int:
    """Return how many workers there are; with one, the started process serves alone."""
    wanted = config.server.workers
    if wanted != "auto":
        return wanted
    return usable_cores()


def _make_workers(services: Services, sockets: Sequence[socket.socket], tls: WorkerTls | None) -> Workers:
    # Here and not above: most servers have none.
    from origin.workers.worker_pool import WorkerPool, WorkerSetup

    setup = WorkerSetup(
        count=_count(services.config),
        config=services.config,
        limits=services.limits,
        files=services.library.storage.withheld.files,
        thumbnails=services.library.thumbnails is not None,
        renditions=services.library.renditions,
        sockets=sockets,
        logs=services.logs,
        sessions=services.sessions,
        revocations=services.token_keys.revocations,
        tls=tls,
    )
    return WorkerPool(setup)
