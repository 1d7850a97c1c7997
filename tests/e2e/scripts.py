"""Programs of others, by npm: taken once by the lock file's hashes, kept in the user's cache."""

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

import pytest

LOCK = Path(__file__).parent / "package-lock.json"
MEMBERS = {
    "axe-core": "package/axe.min.js",
    "dashjs": "package/dist/legacy/umd/dash.all.min.js",
    "hls-parser": "package/dist/hls-parser.min.js",
    "shaka-player": "package/dist/shaka-player.compiled.js",
}
DOWNLOAD_SECONDS = 300


def script(package: str) -> Path:
    """Give the script of a package; the test is skipped where it can't be had."""
    locked = json.loads(LOCK.read_text("utf-8"))["packages"][f"node_modules/{package}"]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater" / "players"
    path = cache / f"{package}-{locked['version']}.js"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            archive = _download(f"{package}@{locked['version']}", Path(scratch))
            _verify(archive, locked["integrity"])
            with tarfile.open(archive) as tar:
                source = tar.extractfile(MEMBERS[package])
                assert source is not None
                partial = Path(scratch) / "script"
                partial.write_bytes(source.read())
            partial.rename(path)
    return path


def _download(specifier: str, folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm isn't there")
    command = [npm, "pack", specifier, "--pack-destination", str(folder), "--ignore-scripts", "--silent"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=DOWNLOAD_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"{specifier} can't be fetched: {error}")
    return next(folder.glob("*.tgz"))


def _verify(archive: Path, integrity: str) -> None:
    algorithm, _, expected = integrity.partition("-")
    digest = hashlib.new(algorithm, archive.read_bytes()).digest()
    assert base64.b64encode(digest).decode("ascii") == expected, f"{archive.name} isn't the locked one"
