"""Announces stations that are public to a directory by Icecast's YP protocol, such as dir.xiph.org.

The directory answers in header fields: whether it accepts the station, under which number, and how often it
wants a report that the station is still on air. Nothing is announced unless ``server.yp_url`` is configured.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

import httpx
import structlog

from origin.radio.mounts.icy_headers import one_line
from origin.radio.mounts.limits import DirectoryLimits
from origin.radio.mounts.mount import Mount
from packager.retry_policy import FailureCount
from packager.sources.pullers.guarded_http import certificates, guarded_client
from packager.sources.retries import PullError

log = structlog.get_logger()


LATEST_SECONDS = 3600.0
"""Longest pause between two announcements of a station."""

NUMBER_CHARACTERS = 200
"""Longest number of a station that a directory may choose."""


class DirectoryError(Exception):
    """The directory refused a report, or can't be reached; the text says why."""


class Directory:
    """Announces stations to a directory, as long as they are on air and public.

    Args:
        url: the directory's, by the administrator's choice, so it may be on this machine; redirects aren't
            followed.
        public_url: this server's own address, as listeners reach it.
        limits: how often the directory is called, and for how long.
    """

    name = "directory"

    def __init__(self, url: str, public_url: str, mounts: Sequence[Mount], limits: DirectoryLimits) -> None:
        self._url = url
        self._public_url = public_url.rstrip("/")
        self._mounts = mounts
        self._limits = limits

    async def run(self) -> None:
        """Announce until cancelled; the stations are then taken off the list, if that is soon done."""
        await asyncio.to_thread(certificates)
        async with asyncio.TaskGroup() as group:
            for mount in self._mounts:
                group.create_task(self._announce(mount))

    def close(self) -> None:
        """Do nothing: no request waits for the list of stations."""

    async def _announce(self, mount: Mount) -> None:
        """Keep one station on the directory's list while it is announced."""
        loop, failures = asyncio.get_running_loop(), FailureCount(self._limits.retry)
        number, due = "", 0.0
        try:
            while True:
                if is_announced(mount) and loop.time() >= due:
                    try:
                        number, pause = await self._add_or_touch(mount, number)
                        failures.succeeded()
                    except DirectoryError as error:
                        number, pause = "", failures.failed()
                        if failures.failures <= self._limits.retry.quiet_after:
                            log.warning(
                                "a directory didn't list a station",
                                mount=mount.name,
                                reason=str(error),
                                again_in=pause,
                            )
                    due = loop.time() + pause
                elif number and not is_announced(mount):
                    await self._remove(number)
                    number, due = "", 0.0
                await asyncio.sleep(self._limits.look_seconds)
        finally:
            if number:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._limits.last_seconds):
                        await self._remove(number)

    async def _add_or_touch(self, mount: Mount, number: str) -> tuple[str, float]:
        """Add a station or touch it; return its number, and the seconds until the next touch."""
        fields = touch_form(mount, number) if number else add_form(mount, self._public_url)
        answer = await self._post(fields)
        if answer.get("ypresponse") != "1":
            raise DirectoryError(
                one_line(answer.get("ypmessage", ""))[:200] or "the directory sent no reason"
            )
        found = answer.get("sid", "") or number
        if not found or len(found) > NUMBER_CHARACTERS:
            raise DirectoryError("the directory sent no SID")
        wanted = answer.get("touchfreq", "")
        seconds = int(wanted) if wanted.isascii() and wanted.isdecimal() and len(wanted) < 6 else 0
        return found, min(max(seconds, self._limits.soonest_seconds), LATEST_SECONDS)

    async def _remove(self, number: str) -> None:
        # The directory forgets stations without reports, so an error doesn't matter.
        with contextlib.suppress(DirectoryError):
            await self._post({"action": "remove", "sid": number})

    async def _post(self, fields: Mapping[str, str]) -> Mapping[str, str]:
        """Return the fields of the answer's head; its body isn't read."""
        try:
            async with (
                asyncio.timeout(self._limits.answer_seconds),
                guarded_client(self._url, timeout=None) as client,
                client.stream("POST", self._url, data=dict(fields)) as answer,
            ):
                if answer.status_code != 200:
                    raise DirectoryError(f"the directory answers {answer.status_code}")
                return answer.headers
        except TimeoutError:
            raise DirectoryError("the directory didn't answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, PullError) as error:
            raise DirectoryError(f"the directory can't be reached: {type(error).__name__}") from None


def is_announced(mount: Mount) -> bool:
    """Return whether a station belongs on the list: on air, public, and open to everybody."""
    options = mount.options
    is_open = not options.listener_password and not options.has_listener_webhook
    return mount.state == "live" and mount.description.public and is_open


def add_form(mount: Mount, public_url: str) -> dict[str, str]:
    """Write what adds a station to the list, by the names of Icecast's fields."""
    description = mount.description
    return {
        "action": "add",
        "sn": one_line(description.name),
        "genre": one_line(description.genre),
        "cpswd": "",
        "desc": one_line(description.description),
        "url": one_line(description.url),
        "listenurl": f"{public_url}/radio/{mount.name}",
        "type": mount.media_type,
        "stype": "",
        "b": str(mount.bitrate),
    }


def touch_form(mount: Mount, number: str) -> dict[str, str]:
    """Write the form which reports that a station is still on air."""
    return {
        "action": "touch",
        "sid": number,
        "st": one_line(mount.title),
        "listeners": str(mount.listeners),
        "max_listeners": str(mount.options.max_listeners),
        "stype": "",
    }
