"""Asks a server of the administrator's whether somebody may do something; it fails closed, in bounded time.

Most servers have no webhook, and are back sooner after a crash without a client of HTTP: import this late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx

from origin.access.limits import WebhookLimits
from packager.sources.guarded_http import certificates, guarded_client
from packager.sources.retries import PullError


class DeniedError(Exception):
    """The other server doesn't allow it.

    Attributes:
        status: of its answer.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"denied it with {status}")
        self.status = status


class UnansweredError(Exception):
    """The other server can't be asked now; the text says why, without its address."""


class Webhook:
    """Asks by ``POST`` with JSON; any status of success allows (RFC 9110 §15.3).

    Args:
        url: what is asked. It is the administrator's, so it may be in a private network or on this machine.
        limits: how long an answer may take, and how many are waited for.
    """

    def __init__(self, url: str, limits: WebhookLimits) -> None:
        self._url = url
        self._limits = limits
        self._asking = 0

    async def ask(self, asked: Mapping[str, object]) -> None:
        """Ask the server whether this may be done, and return if it allows it.

        Raises:
            DeniedError: it doesn't allow it.
            UnansweredError: it doesn't answer in time.
        """
        if self._asking >= self._limits.requests:
            raise UnansweredError("has too much to answer")
        self._asking += 1
        try:
            async with asyncio.timeout(self._limits.seconds):
                status = await self._post(asked)
        except TimeoutError:
            raise UnansweredError("didn't answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, PullError) as error:
            # The text may contain the URL.
            raise UnansweredError(f"can't be asked: {type(error).__name__}") from None
        finally:
            self._asking -= 1
        if not 200 <= status < 300:
            raise DeniedError(status)

    async def _post(self, asked: Mapping[str, object]) -> int:
        """Return the status of the answer; its body isn't read."""
        await asyncio.to_thread(certificates)
        async with (
            guarded_client(self._url, timeout=None) as client,
            client.stream("POST", self._url, json=dict(asked)) as answer,
        ):
            return answer.status_code
