"""JSON Web Tokens that are revoked at one node of a cluster, and refused at all of them."""

from __future__ import annotations

import functools
import time
from pathlib import Path

from origin.access.revocations import digest_of
from origin.access.shared_revocations import KEY
from tests.conftest import ServerProcess, start_server
from tests.origin.cluster.nodes import nodes
from tests.redis_server import RedisServer
from tests.revoked_tokens import CONFIGURATION, Reader, get, revoke, token
from tests.waiting import wait_for


def is_refused(node: ServerProcess, bearer: str) -> bool:
    return get(node, "/events/signed?since=", bearer).status_code == 403


def test_a_token_that_is_revoked_at_one_node_is_refused_at_all_also_at_later_ones(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    (tmp_path / "library").mkdir()
    lost, late, kept = token(jti="lost"), token(jti="late"), token(jti="kept")
    with nodes(tmp_path, redis_server, "all", "edge", channels=CONFIGURATION) as two:
        one, other = two
        readers = [Reader(node, lost) for node in two]
        stays = Reader(other, kept)
        assert revoke(one, jti="lost").status_code == 200
        wait_for(lambda: all(reader.ended for reader in readers), "the ends of the streams", seconds=10)
        for node in two:
            wait_for(functools.partial(is_refused, node, lost), "the refusal")
        # While Redis is away, the others can't know; they do when it comes back without its data.
        redis_server.kill()
        wait_for(lambda: "Redis can't be used" in one.text() + other.text(), "the lines of the log")
        reader = Reader(other, late)
        assert revoke(one, jti="late").status_code == 200
        assert is_refused(one, late)
        redis_server.start()
        wait_for(lambda: reader.ended, "the end of the stream")
        wait_for(functools.partial(is_refused, other, late), "the refusal")
        assert not stays.ended
        config = str(tmp_path / "headwater.toml")
        third = start_server(
            "--config", config, "--port", "0", cwd=tmp_path, env={"HEADWATER_CLUSTER_ROLE": "edge"}
        )
        try:
            for bearer in (lost, late):
                wait_for(functools.partial(is_refused, third, bearer), "the refusal of a later node")
            assert not is_refused(third, kept)
        finally:
            assert third.stop() == 0


def test_what_ended_long_ago_leaves_redis_and_what_holds_is_read(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    (tmp_path / "library").mkdir()
    ended, over, lost = token(jti="ended"), token(jti="over"), token(jti="lost")
    with nodes(tmp_path, redis_server, "all", channels=CONFIGURATION) as (first,):
        assert revoke(first, jti="kept").status_code == 200
        wait_for(lambda: redis_server.command("ZCARD", KEY) == b":1\r\n", "the set")
        now = time.time()
        for jti, until in (("ended", now - 3600), ("over", now - 172_800), ("lost", now + 3600)):
            redis_server.command("ZADD", KEY, str(until), digest_of(jti))
        config = str(tmp_path / "headwater.toml")
        later = start_server("--config", config, "--port", "0", cwd=tmp_path)
        try:
            wait_for(functools.partial(is_refused, later, lost), "the refusal of a later node")
            for bearer in (ended, over):
                assert not is_refused(later, bearer)
            # What has just ended stays for nodes whose clocks are behind.
            assert redis_server.command("ZSCORE", KEY, digest_of("over")) == b"$-1\r\n"
            assert redis_server.command("ZCARD", KEY) == b":3\r\n"
        finally:
            assert later.stop() == 0
