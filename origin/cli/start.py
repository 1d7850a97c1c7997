"""The beginning of ``headwater serve``: what takes its time is begun at once, side by side."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from origin.config.errors import CommandError
from origin.config.options import Config
from origin.server import malloc
from origin.server.reload import reloading
from packager.process import sandbox
from packager.process.limits import DEFAULT_TOOLS_LIMITS
from packager.process.tools import discover

if TYPE_CHECKING:
    from origin.server.limits import Limits
    from origin.server.socket_activation import Sockets


def prepare(config: Config, limits: Limits | None = None) -> Sockets | None:
    """Do what comes before everything else: judge the sandbox, and become the configured user.

    No thread nor loop runs yet, and nothing was read or written that is that user's.

    Returns:
        The sockets that only the user before could bind; None where the server stays who it is.

    Raises:
        CommandError: the sandbox is incomplete and is required, an address is taken, or the user can't be
            taken.
    """
    if config.server.require_sandbox and (lacking := sandbox.missing()):
        advice = "run it on a kernel that has them (Linux 5.13 and newer), or without that option"
        raise CommandError(f"server.require_sandbox: this system lacks {' and '.join(lacking)}; {advice}")
    if not config.server.user:
        return None
    from origin.server import privileges, socket_activation
    from origin.server.listening import DEFAULT_LIMITS

    listening = DEFAULT_LIMITS if limits is None else limits.server.listening
    sockets = socket_activation.inherit_or_bind(config, listening)
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
    """Serve until SIGTERM or Ctrl-C; ffmpeg is asked what it can while the rest of the program is read.

    Args:
        config: all options.
        read: reads them again from where they came from; it blocks.
        bound: what ``prepare`` gave.
        demo: whether the demo's channel, station and (without an own library) films are added.
        own_library: whether the configuration names a library.
        file: where it was read from, if from a file.
        limits: those that aren't configured; None: the usual ones.

    Raises:
        CommandError, ToolsError, DataInUseError, OSError: as ``serve.serve``.
    """
    malloc.configure()
    asking = asyncio.ensure_future(discover(limits=DEFAULT_TOOLS_LIMITS if limits is None else limits.tools))
    try:
        await asyncio.to_thread(importlib.import_module, "origin.server.serve")
        from origin.server import serve

        async with reloading(config, read):
            await serve.serve(
                config, asking, bound, demo=demo, own_library=own_library, file=file, limits=limits
            )
    finally:
        asking.cancel()
        # Whoever needs the answer has had it, or the error; it is told once.
        await asyncio.gather(asking, return_exceptions=True)
