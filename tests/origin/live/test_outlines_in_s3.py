"""The outlines of a DVR in S3: written beside its index, and answers don't depend on them."""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest

from packager.dvr.stored_outlines import OutlineName
from packager.past.outlines import BLOCK_SEGMENTS
from tests.long_dvr import LongDvr, make_long_bucket
from tests.origin.live.long_server import SECONDS, WINDOW, Long
from tests.s3_server import BUCKET, S3Proxy, S3Server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

PLACE = "outlined"
PIECE, OUTLINE = "index", "outlines"


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    found = S3Proxy(s3_server)
    yield found
    found.close()


def numbers(s3_server: S3Server, kind: str) -> dict[str, int]:
    """Return the keys of all renditions' pieces, or of the outlines, and the first number of each."""
    keys = (one["path"] for one in s3_server.store(PLACE).list().collect())
    names = ((key, re.search(rf"/{kind}/([0-9]{{15}})-", key)) for key in keys)
    return {key: int(found[1]) for key, found in names if found is not None}


def expected(s3_server: S3Server) -> set[str]:
    """Return the keys of the outlines of all full blocks."""
    begins = [one - one % BLOCK_SEGMENTS for one in numbers(s3_server, PIECE).values()]
    full = range(min(begins) + BLOCK_SEGMENTS, max(begins), BLOCK_SEGMENTS)
    return {f"live/long/dvr/outlines/{OutlineName.having(one, full)}" for one in full}


def another_node(one: Long, name: str) -> Long:
    """Start a server that knows nothing but what is in S3, and the number that comes next."""
    one.server.stop(signal.SIGKILL)
    place = Path("data") / "live" / "long"
    folder = one.folder / name
    (folder / place).mkdir(parents=True)
    shutil.copy(one.folder / place / "number", folder / place)
    node = Long(folder, one.until, one.options, one.environment)
    node.start(WINDOW)
    return node


def test_every_node_says_the_same_with_outlines_and_without(
    tmp_path: Path, s3_server: S3Server, proxy: S3Proxy
) -> None:
    until = round(time.time() - 60, 3)
    place = LongDvr(tmp_path / "data" / "live" / "long", until, SECONDS, SECONDS, 20, ((0, until),))
    make_long_bucket(place, s3_server.store(PLACE))
    options, environment = f'dvr_path = "s3://{BUCKET}/{PLACE}"\n', s3_server.environment(proxy.url)
    one = Long(tmp_path, until, options, environment)
    one.start()
    one.listed = one.answers()
    assert one.server.stop() == 0
    assert numbers(s3_server, OUTLINE) == {}, "all of it is listed"

    one.start(WINDOW)
    assert one.answers() == one.listed, "of pieces"
    names = expected(s3_server)
    wait_for(lambda: set(numbers(s3_server, OUTLINE)) >= names, "outlines of full blocks")
    assert set(numbers(s3_server, OUTLINE)) == names, "of full blocks alone"
    proxy.requests.clear()
    second = another_node(one, "second")
    assert second.answers() == one.listed
    assert {line.split()[1].partition(f"{PLACE}/")[2] for line in proxy.asked("GET", f"/{OUTLINE}/")} == names

    for key in names:
        obstore.put(s3_server.store(PLACE), key, b"not ours")
    third = another_node(second, "third")
    assert third.answers() == one.listed
    assert set(numbers(s3_server, OUTLINE)) == names
    assert third.server.stop() == 0
    assert "Traceback" not in third.server.text()
