"""Workers may do no more than the started process, which has become a user."""

from __future__ import annotations

import pwd
from pathlib import Path

from tests.conftest import start_server
from tests.keys import ADMIN_TOKEN
from tests.origin.system.root_processes import (
    NOBODY,
    as_root,
    everybodys,
    folder,
    free_low_port,
    states,
)
from tests.origin.workers.asking import asked, ready, workers_of

__all__ = ["folder"]


def limits_of(pid: int) -> str:
    return Path(f"/proc/{pid}/limits").read_text()


@as_root
def test_workers_of_a_server_that_root_starts_are_the_configured_user(folder: Path) -> None:
    program, env = everybodys()
    (folder / "library" / "film.mp4").write_bytes(b"film")
    config = folder / "headwater.toml"
    config.write_text(f'[server]\nworkers = 2\nuser = "{NOBODY}"\n')
    port = free_low_port()
    options = ("--config", str(config), "--library", str(folder / "library"), "--port", str(port))
    server = start_server(*options, env=env, program=program)
    try:
        ready(server, 2)
        user = pwd.getpwnam(NOBODY)
        for pid in workers_of(server):
            for thread in states(pid):
                assert thread["Uid"].split() == [str(user.pw_uid)] * 4
                assert thread["Gid"].split() == [str(user.pw_gid)] * 4
                assert int(thread["CapEff"], 16) == int(thread["CapPrm"], 16) == 0
                assert thread["NoNewPrivs"] == "1"
            assert limits_of(pid) == limits_of(server.process.pid)
            assert ADMIN_TOKEN.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        for _ in range(4):
            assert asked(server, "/media/film.mp4") == "film"
    finally:
        assert server.stop() == 0
