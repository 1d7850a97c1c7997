"""Logs and jobs find Redis by a real Sentinel, also behind a failover; over TLS a certificate is checked."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from packager.cluster.connection import RedisConnection, RedisUnavailableError
from packager.cluster.redis_client import redis_client
from packager.concurrency import background_task
from packager.jobs.job import Job, JobState, Status
from packager.jobs.redis_queue import JobQueue, queues_client
from tests.certificates import self_signed
from tests.packager.cluster.redis_connections import LIMITS
from tests.packager.jobs.slow_worker import ASKING, kind
from tests.ports import kept_port
from tests.processes import end
from tests.redis_server import RedisServer, redis_running
from tests.waiting import until, wait_for

SERVICE = "headwater-test"
SENTINEL = """
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor {service} 127.0.0.1 {master} 1
sentinel down-after-milliseconds {service} 500
sentinel failover-timeout {service} 2000
sentinel auth-user {service} node
sentinel auth-pass {service} {password}
requirepass of-the-sentinel
"""
PASSWORD = "p@ss:w/rd"
USER = ("--user", "node", "on", f">{PASSWORD}", "~*", "&*", "+@all")
REPLICATED = (*USER, "--masteruser", "node", "--masterauth", PASSWORD)


@contextlib.contextmanager
def sentinel_running(folder: Path, master: int) -> Iterator[int]:
    """Run a Sentinel that watches a master; give its port."""
    program = shutil.which("redis-server")
    assert program is not None
    config = folder / "sentinel.conf"
    with kept_port() as port, (folder / "log").open("wb") as log:
        values = {"port": port, "folder": folder, "master": master}
        config.write_text(SENTINEL.format(**values, service=SERVICE, password=PASSWORD))
        process = subprocess.Popen([program, str(config), "--sentinel"], stdout=log, stderr=log)
        try:
            yield port
        finally:
            end(process)


def is_replicated(replica: RedisServer, log: Path) -> bool:
    """Tell whether a replica has all of its master's data, and the Sentinel knows of it."""
    is_level = b"master_link_status:up" in replica.command("INFO", "replication")
    return is_level and b"+slave " in log.read_bytes()


async def test_logs_and_jobs_follow_a_sentinel_to_the_next_master(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("master", "replica", "sentinel")]
    for one in folders:
        one.mkdir()
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(redis_running(folders[0], *REPLICATED))
        following = ("--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0")
        replica = stack.enter_context(redis_running(folders[1], *REPLICATED, *following))
        port = stack.enter_context(sentinel_running(folders[2], master.port))
        log = folders[2] / "log"
        await asyncio.to_thread(wait_for, lambda: is_replicated(replica, log), "the replica")
        url = (
            f"redis+sentinel://node:{quote(PASSWORD, safe='')}@127.0.0.1:1,127.0.0.1:{port}/{SERVICE}/0"
            "?sentinel_password=of-the-sentinel"
        )
        connection = await asyncio.to_thread(RedisConnection, url, LIMITS)
        jobs = queues_client(url, ASKING)
        queue, job = JobQueue(jobs, kind("package"), ASKING), Job("key", {})
        async with background_task(connection.run()):
            await until(lambda: connection.is_up, "the master")
            await connection.call(lambda client: client.set("kept", "by the replica"))
            assert await queue.put(job)
            assert await connection.call(lambda client: client.wait(1, 30_000)) == 1
            master.kill()
            with pytest.raises(RedisUnavailableError):
                await connection.call(lambda client: client.get("kept"))
            await until(lambda: connection.is_up, "the next master")
            assert await connection.call(lambda client: client.getset("kept", "")) == b"by the replica"
            assert await queue.states([job]) == [JobState(Status.WAITING)]
        await jobs.aclose()


@pytest.fixture(scope="module")
def redis_with_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, int, Path]]:
    folder = tmp_path_factory.mktemp("tls")
    certificate = self_signed(folder)
    with kept_port() as port:
        files = ("--tls-cert-file", str(certificate.chain), "--tls-key-file", str(certificate.key))
        words = ("--tls-port", str(port), *files, "--tls-auth-clients", "no")
        with redis_running(folder, *words) as server:
            yield server, port, certificate.chain


async def test_a_certificate_is_checked(redis_with_tls: tuple[RedisServer, int, Path]) -> None:
    _, port, chain = redis_with_tls
    trusted = await asyncio.to_thread(
        RedisConnection, f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={chain}", LIMITS
    )
    async with background_task(trusted.run()):
        await until(lambda: trusted.is_up, "Redis")
        assert await trusted.call(lambda client: client.ping())
    stranger = await asyncio.to_thread(RedisConnection, f"rediss://127.0.0.1:{port}/0", LIMITS)
    async with background_task(stranger.run()):
        await until(lambda: "certificate" in stranger.trouble.lower(), "the refusal")
        with pytest.raises(RedisUnavailableError):
            await stranger.call(lambda client: client.ping())


@pytest.mark.parametrize(
    ("url", "addresses", "database"),
    [
        ("redis+sentinel://one:1,two:2/main", [("one", 1), ("two", 2)], 0),
        ("redis+sentinel://[::1]:7/main/3", [("::1", 7)], 3),
    ],
)
def test_sentinels_are_named_by_their_addresses(
    url: str, addresses: list[tuple[str, int]], database: int
) -> None:
    pool: Any = redis_client(url, connect_seconds=1, answer_seconds=None, connections=2).connection_pool
    found = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in found] == addresses
    assert pool.connection_kwargs["db"] == database


@pytest.mark.parametrize("rest", ["one:1", "one:x/main", "one:1/main/x"])
def test_a_wrong_url_of_sentinels_is_refused(rest: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        redis_client(f"redis+sentinel://{rest}", connect_seconds=1, answer_seconds=None, connections=2)
