"""A rendition's place in a bucket for each test, which several processes may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packager.dvr.rendition_in_bucket import RenditionInBucket
from tests.s3_server import S3Proxy, S3Server


@pytest.fixture
def rendition(
    request: pytest.FixtureRequest,
    s3_server: S3Server,
    s3_proxy: S3Proxy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[RenditionInBucket]:
    """Make a place with the limits of the test's module, behind a proxy."""
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    place = f"{request.module.__name__.rpartition('.')[2]}/{request.node.name}"
    found = RenditionInBucket(s3_server, place, tmp_path, request.module.LIMITS)
    yield found
    found.close()
