"""A service that broke runs again as if nothing had been."""

from __future__ import annotations

import asyncio
from pathlib import Path

from origin.config.options import Config, LibraryOptions
from origin.server.services.limits import Limits, ServerLimits
from origin.server.services.services import Services
from tests.waiting import until


class Fragile:
    """Breaks in a group of tasks, as services do, and waits with a time limit when it is started again."""

    name = "fragile"

    def __init__(self) -> None:
        self.runs = 0
        self.has_waited = False

    async def run(self) -> None:
        self.runs += 1
        if self.runs == 1:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._fail())
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            self.has_waited = True
        await asyncio.Event().wait()

    async def _fail(self) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    def close(self) -> None:
        pass


async def test_time_limits_of_a_service_hold_behind_a_group_of_tasks_that_broke(tmp_path: Path) -> None:
    config = Config(library=LibraryOptions(path=str(tmp_path)))
    services = Services(config, None, limits=Limits(server=ServerLimits(revive_seconds=0.01)))
    fragile = Fragile()
    services.add(fragile)
    async with services.running():
        await until(lambda: fragile.has_waited, "the end of the time limit")
        services.close()
