"""The demo's channel has a past and programmes, and nothing of it stays."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Sequence
from errno import ENOSPC
from pathlib import Path

from origin.server.demo import ABANDONED_SECONDS
from origin.server.services.demo_programmes import LENGTH_SECONDS, PAST, DemoProgrammes, programmes_at
from packager.concurrency import background_task
from packager.past.programmes import Programme
from packager.programmes.store import ProgrammeStore
from tests.conftest import ServerProcess
from tests.origin.server.app_requests import fetch_json
from tests.own_demo import demo_in
from tests.waiting import until, wait_for


def test_the_demos_channel_goes_back_in_a_folder_that_goes_with_it(tmp_path: Path) -> None:
    """Folders of demos that were killed go, too, and those of demos that run stay."""
    left, used, new = (tmp_path / "headwater" / f"demo-data-{name}" for name in ("left", "used", "new"))
    for folder in (left, used, new):
        folder.mkdir(parents=True)
        if folder != new:
            (folder / "lock").touch()
        long_ago = folder.stat().st_mtime - 2 * ABANDONED_SECONDS
        os.utime(folder, (long_ago, long_ago))
    with (used / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with demo_in(tmp_path) as server:
            (folder,) = set((tmp_path / "headwater").glob("demo-data-*")) - {used, new}
            wait_for(lambda: list(folder.glob("live/demo/dvr/*/index")), "segments on disk")
            (channel, *_) = fetch_json(f"{server.url}/api/live")
            assert channel["available_from"] is not None
    assert set((tmp_path / "headwater").glob("demo-data-*")) == {used, new}


async def test_a_disk_that_takes_no_programmes_ends_no_demo() -> None:
    class Full(ProgrammeStore):
        tries = 0

        async def replace(self, programmes: Iterable[Programme], kept: Iterable[str] = ()) -> Sequence[str]:
            self.tries += 1
            raise OSError(ENOSPC, "no space left")

    store = Full("demo", None)
    # Just before a quarter of an hour the next ones follow at once.
    programmes = DemoProgrammes(store, lambda: LENGTH_SECONDS - 0.01)
    async with background_task(programmes.run()):
        await until(lambda: store.tries > 1)


def test_the_demos_channel_has_the_programme_that_is_on_and_the_next_one(demo_server: ServerProcess) -> None:
    def states() -> list[str]:
        return [one["state"] for one in fetch_json(f"{demo_server.url}/api/live/demo/programmes")]

    # At a quarter of an hour, the first one may be over.
    assert wait_for(states, "programmes")[-2:] == ["running", "coming"]


def test_programmes_follow_each_other_and_are_no_more_than_the_dvr_has() -> None:
    began = 1_796_000_000.0
    at_once = list(programmes_at(began, began))
    assert len(at_once) == 2
    assert at_once[0].start <= began < at_once[0].end == at_once[1].start
    later = list(programmes_at(began + 86_400, began))
    assert len(later) == PAST + 2
    assert len({one.id for one in later}) == len(later)
    assert all(one.end - one.start == LENGTH_SECONDS for one in later)
