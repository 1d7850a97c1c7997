"""A node tells Redis who it is, as its URL says, and says in a line where Redis refuses that."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import pytest

from packager.cluster.connection import RedisConnection
from packager.concurrency import background_task
from tests.packager.cluster.redis_connections import LIMITS, connected
from tests.redis_server import RedisServer
from tests.waiting import until

PASSWORD = "p@ss:w/rd"


@pytest.mark.parametrize("user", ["node", ""], ids=["a user of an ACL", "requirepass"])
async def test_user_and_password_of_the_url_are_used_and_wrong_ones_told_in_a_line(
    redis_server: RedisServer, user: str
) -> None:
    async with connected(redis_server) as before:
        # This connection was made before, and may go on.
        if user:
            words = ["ACL", "SETUSER", user, "on", f">{PASSWORD}", "~headwater:*", "+@all"]
        else:
            words = ["CONFIG", "SET", "requirepass", PASSWORD]
        await before.call(lambda client: client.execute_command(*words))
        try:
            right = await asyncio.to_thread(RedisConnection, url(redis_server, user, PASSWORD), LIMITS)
            async with background_task(right.run()):
                await until(lambda: right.is_up, "Redis")
                who = await right.call(lambda client: client.execute_command("ACL", "WHOAMI"))
                assert who.decode() == (user or "default")
            wrong = await asyncio.to_thread(RedisConnection, url(redis_server, user, "guessed"), LIMITS)
            async with background_task(wrong.run()):
                await until(lambda: "password" in wrong.trouble, "the refusal")
                assert not wrong.is_up
                assert wrong.trouble.startswith("Redis: ")
                assert len(wrong.trouble.splitlines()) == 1
                assert "guessed" not in wrong.trouble
        finally:
            undo = ("ACL", "DELUSER", user) if user else ("CONFIG", "SET", "requirepass", "")
            await before.call(lambda client: client.execute_command(*undo))


def url(server: RedisServer, user: str, password: str) -> str:
    return f"redis://{user}:{quote(password, safe='')}@127.0.0.1:{server.port}/0"
