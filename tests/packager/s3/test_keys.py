"""Keys of any characters are served as exactly those files, or not at all."""

from __future__ import annotations

import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from packager.library.file_listing import CatalogueLimits
from packager.library.local_storage import NotFoundError
from packager.s3.library import S3Library
from packager.s3.limits import S3Limits
from tests.s3_server import BUCKET, KEY, SECRET, S3Proxy, S3Server

PREFIX = "keys of all kinds"
KEYS = (
    *("a/b.mp4", "a%2Fb.mp4", "a%252Fb.mp4", "a+b.mp4", "a b.mp4", "A/b.mp4"),
    *("100%.mp4", "%2e/f.mp4", "%2e%2e.mp4", "%zz.mp4", "%00.mp4", "a?b#c&d=e.mp4"),
    *("\u00fc.mp4", "u\u0308.mp4", "\U0001f3ac.mp4", "\u200b.mp4", "...mp4", "x" * 250 + ".mp4", "'\"<>.mp4"),
)
UNSERVED = ("\u200b.mp4", "...mp4")
"""An invisible character, and a leading dot."""


def put(server: S3Server, key: str) -> None:
    """Store an object whose content is its key, by another client than ours."""
    done = subprocess.run(
        [
            *("curl", "-s", "-f", "--path-as-is", "-X", "PUT", "--data-binary", key, "--max-time", "30"),
            *("-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"),
            *("--aws-sigv4", "aws:amz:us-east-1:s3", "-u", f"{KEY}:{SECRET}"),
            f"{server.url}/{BUCKET}/{quote(f'{PREFIX}/{key}')}",
        ],
        check=False,
    )
    assert done.returncode == 0, key


def test_every_key_is_that_object_and_no_other(
    s3_server: S3Server, s3_proxy: S3Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    for key in KEYS:
        put(s3_server, key)
    library = S3Library(f"s3://{BUCKET}/{PREFIX}", tmp_path, S3Limits())
    listed = {one.path for one in library.walk(frozenset({".mp4"}), CatalogueLimits(), lambda: False).files}
    assert listed == {*KEYS} - {*UNSERVED}
    for key in listed:
        with library.open(key) as file:
            assert file.pread(0, 1000).decode() == key
    before = len(s3_proxy.requests)
    for name in ("a//b.mp4", "/a/b.mp4", "a/./b.mp4", "a/../a/b.mp4", "a/b.mp4/", "a\nb.mp4", "k" * 2000, ""):
        with pytest.raises(NotFoundError):
            library.open(name)
    assert len(s3_proxy.requests) == before, "S3 isn't asked for what is no key"
    for name in ("a%2fb.mp4", "100%25.mp4", "./f.mp4", "\u00dc.mp4", "a%20b.mp4"):
        with pytest.raises(NotFoundError):
            library.open(name)
    library.close()
