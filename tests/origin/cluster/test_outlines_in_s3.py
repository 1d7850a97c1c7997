"""The outlines of a cluster's DVR in S3: all nodes say the same of the past with them and without."""

from __future__ import annotations

from pathlib import Path

import obstore
import pytest
from msgspec.structs import replace
from obstore.store import S3Store

from packager.dvr.bucket.index_pieces import PieceName
from packager.dvr.index import IndexLine, decode, encode
from packager.dvr.limits import DEFAULT_LIMITS
from packager.dvr.stored_outlines import OutlineName
from packager.past.outlines import BLOCK_SEGMENTS
from tests.conftest import ServerProcess
from tests.origin.cluster.nodes import get, nodes, owns, plays, shared_channel
from tests.redis_server import RedisServer
from tests.s3_server import BUCKET, S3Proxy, S3Server
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

PLACE = "live/shared/dvr"
RENDITIONS = ("source", "audio")
EARLIER, LATER = 2800, 300
"""How many seconds ago the segments of an earlier day begin and end, of a second each."""

COUNT = EARLIER - LATER


def keys(store: S3Store, folder: str) -> list[str]:
    found = sorted(one["path"] for one in store.list(f"{PLACE}/{folder}").collect())
    return [key for key in found if key.rpartition("/")[2][:1].isdigit()]


def outlined(store: S3Store) -> set[int]:
    """Return the first numbers of blocks whose outlines are stored, by themselves or eight in one object."""
    names = (OutlineName.read(key.rpartition("/")[2]) for key in keys(store, "outlines"))
    return {first for name in names if name is not None for first in name.firsts}


def put_earlier(store: S3Store, rendition: str) -> range:
    """Store what the channel's process had stored of an earlier time; give its numbers."""
    (key, *_) = keys(store, f"{rendition}/index")
    cadence, _, rest = bytes(obstore.get(store, key).bytes()).partition(b"\n")
    (line, *_) = decode(rest)[0].values()
    first = line.number - EARLIER
    init = f"{PLACE}/{rendition}/init-{line.init}-{line.stored_by}.mp4"
    copied = bytes(obstore.get(store, init).bytes())
    obstore.put(store, init.replace(f"init-{line.init}-", f"init-{first}-"), copied)
    numbers, before = range(first, first + COUNT), 0
    lines = DEFAULT_LIMITS.piece_lines
    for begin in range(first - first % lines, numbers.stop, lines):
        own = [earlier(line, number, first) for number in range(begin, begin + lines) if number in numbers]
        name = PieceName.of(own[0], line.stored_by, before)
        before += sum(one.size for one in own)
        data = b"".join((cadence, b"\n", *map(encode, own)))
        obstore.put(store, f"{PLACE}/{rendition}/index/{name}", data)
    return numbers


def earlier(like: IndexLine, number: int, first: int) -> IndexLine:
    date, per_second = like.date
    moved = (date - (like.number - number) * per_second, per_second)
    parts = () if number % 97 == 0 else like.parts
    return replace(like, number=number, date=moved, init=first, discontinuity=False, parts=parts)


def same(every: list[ServerProcess], paths: list[str]) -> list[tuple[bytes, str]]:
    """Return what all nodes answer, which is one thing."""
    found = []
    for path in paths:
        answers = [get(one, path) for one in every]
        assert {one.status_code for one in answers} == {200}, path
        (text,) = {(one.content, one.headers["etag"]) for one in answers}
        found.append(text)
    return found


def test_every_node_says_the_same_with_outlines_and_without(
    tmp_path: Path,
    redis_server: RedisServer,
    s3_server: S3Server,
    s3_proxy: S3Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3_server.environment(s3_proxy.url).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HEADWATER_SERVER_DVR_PATH", f"s3://{BUCKET}/blocks")
    store = s3_server.store("blocks")
    channel = shared_channel('dvr = "1h"', 'playlist_window = "1s"')
    with nodes(tmp_path, redis_server, "packager", channels=channel):
        wait_for(lambda: all(keys(store, f"{one}/index") for one in RENDITIONS), "what is stored")
    numbers, _ = (put_earlier(store, one) for one in RENDITIONS)

    full = [first for first in numbers[BLOCK_SEGMENTS:] if first % BLOCK_SEGMENTS == 0][:-1]
    begin, end = numbers.start + 100.5, numbers.stop - 200.25
    paths = [f"/live/shared/{one}/media.m3u8?start={begin}&end={end}" for one in RENDITIONS]
    paths += [f"/live/shared/master.m3u8?start={begin}&end={end}"]
    with nodes(tmp_path, redis_server, "packager", "packager", "edge", channels=channel) as every:
        wait_for(lambda: all(map(plays, every)), "the channel everywhere")
        wait_for(lambda: sum(map(owns, every)) == 1, "an owner")
        before = same(every, paths)
        assert before[0][0].count(b".m4s") > COUNT - 400

        wait_for(lambda: outlined(store).issuperset(full), "outlines of full blocks")
    s3_proxy.requests.clear()
    with nodes(tmp_path, redis_server, "packager", "edge", channels=channel) as every:
        wait_for(lambda: all(map(plays, every)), "the channel everywhere")
        assert same(every, paths) == before
        assert len(s3_proxy.asked("GET", "/outlines/0")) >= 2
