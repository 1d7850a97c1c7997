"""Real origins with files that a test can replace, and real caches in front of them."""

from __future__ import annotations

import os
import random
import re
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cdn.caches import Cache, running
from tests.conftest import ServerProcess, start_server
from tests.waiting import wait_for

KINDS = ("nginx", "varnish", "trafficserver")
OLD, NEW = 1_700_000_000, 1_700_000_500
"""Modification times of a file and of its successor, both long settled."""

LASTING_SECONDS, EXPIRING_SECONDS = 3600, 1
TIMEOUT_SECONDS = 120.0

_COUNT = re.compile(r'^headwater_requests_total\{area="media",status="(\d+)"\} (\S+)', re.MULTILINE)
_BYTES = re.compile(r'^headwater_sent_bytes_total\{area="media"\} (\S+)', re.MULTILINE)


@dataclass(frozen=True)
class Traffic:
    """What an origin's files were asked for: requests by status, and body bytes."""

    requests: Counter[int] = field(default_factory=Counter)
    sent: int = 0

    def __sub__(self, before: Traffic) -> Traffic:
        return Traffic(self.requests - before.requests, self.sent - before.sent)


@dataclass(frozen=True)
class Origin:
    server: ServerProcess
    library: Path

    def publish(self, name: str, data: bytes, modified: float = OLD) -> bytes:
        """Put a file there, over one of that name, as it should be done: written elsewhere, then renamed.

        Returns when the origin has noticed, which takes it up to a second.
        """
        is_known = (self.library / name).exists()
        self.replace(name, data, modified)
        if is_known:
            tag = f'"{int(modified):x}-{len(data):x}"'
            wait_for(lambda: self.etag(name) == tag, what="the origin's notice of the new file")
        return data

    def replace(self, name: str, data: bytes, modified: float) -> None:
        """Do that and return at once."""
        path = self.library / f".{name}"
        path.write_bytes(data)
        os.utime(path, (modified, modified))
        path.rename(self.library / name)

    def etag(self, target: str) -> str:
        """The ETag of a file, from the origin itself."""
        request = urllib.request.Request(f"{self.server.url}/media/{target}", method="HEAD")
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return str(answer.headers["ETag"])

    def traffic(self) -> Traffic:
        """All traffic so far, from the origin's own metrics."""
        with urllib.request.urlopen(f"{self.server.url}/metrics", timeout=TIMEOUT_SECONDS) as answer:
            text = answer.read().decode()
        requests = Counter({int(status): int(float(count)) for status, count in _COUNT.findall(text)})
        return Traffic(requests, sum(int(float(count)) for count in _BYTES.findall(text)))


def noise(seed: str, size: int) -> bytes:
    """Bytes that are at no other place the same."""
    return random.Random(seed).randbytes(size)


def _origin(folder: Path, max_age: int) -> Iterator[Origin]:
    environment = {"HEADWATER_LIBRARY_MAX_AGE": str(max_age)}
    with start_server("--library", str(folder), "--port", "0", env=environment) as server:
        yield Origin(server, folder)


@pytest.fixture(scope="module")
def lasting_origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    """An origin whose files stay fresh for longer than the tests take."""
    yield from _origin(tmp_path_factory.mktemp("lasting"), LASTING_SECONDS)


@pytest.fixture(scope="module")
def expiring_origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    """An origin whose files expire after a second."""
    yield from _origin(tmp_path_factory.mktemp("expiring"), EXPIRING_SECONDS)


@pytest.fixture(scope="module", params=KINDS)
def lasting(
    request: pytest.FixtureRequest, lasting_origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cache]:
    with running(request.param, lasting_origin.server.url, tmp_path_factory.mktemp("cache")) as cache:
        yield cache


@pytest.fixture(scope="module", params=KINDS)
def expiring(
    request: pytest.FixtureRequest, expiring_origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cache]:
    with running(request.param, expiring_origin.server.url, tmp_path_factory.mktemp("cache")) as cache:
        yield cache
