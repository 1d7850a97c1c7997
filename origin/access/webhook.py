"""Asks an administrator's server whether a client may do something; fails closed, in bounded time.

The request has JSON, and the answer's status decides; or it has a form, as Icecast's, and the answer's fields
decide.

Import this late: most servers have no webhook, and restart faster without an HTTP client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

from origin.access.limits import WebhookLimits
from packager.sources.pullers.guarded_http import certificates, guarded_client
from packager.sources.retries import PullError
from packager.threads import SHARED_THREADS


class DeniedError(Exception):
    """The other server doesn't allow it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"denied it with {status}")
        self.status = status


class UnansweredError(Exception):
    """The other server can't be asked now; the text says why, without its address."""


class Webhook:
    """Sends ``POST`` requests to one URL.

    Args:
        url: the administrator's choice, so it may be in a private network or on this machine.
        limits: how long an answer may take, and how many requests may wait for theirs.
    """

    def __init__(self, url: str, limits: WebhookLimits) -> None:
        self._url = url
        self._limits = limits
        self._asking = 0

    async def ask(self, asked: Mapping[str, object]) -> None:
        """Ask in JSON whether this may be done; return for any status of success (RFC 9110 §15.3).

        Raises:
            DeniedError: it doesn't allow it.
            UnansweredError: it doesn't answer in time.
        """
        status = (await self._post(json=dict(asked))).status_code
        if not 200 <= status < 300:
            raise DeniedError(status)

    async def send_form(self, fields: Mapping[str, str]) -> Mapping[str, str]:
        """Send a form; return the header fields of the answer, whatever its status.

        Raises:
            UnansweredError: it doesn't answer in time.
        """
        return (await self._post(data=dict(fields))).headers

    async def send(self, body: bytes, fields: Mapping[str, str]) -> tuple[int, Mapping[str, str]]:
        """Send a message; return the status and the header fields of the answer.

        Args:
            fields: header fields of the request.

        Raises:
            UnansweredError: it doesn't answer in time.
        """
        answer = await self._post(content=body, headers=dict(fields))
        return answer.status_code, answer.headers

    async def _post(self, **content: Any) -> httpx.Response:
        """Return the head of the answer; its body isn't read."""
        if self._asking >= self._limits.requests:
            raise UnansweredError("has too much to answer")
        self._asking += 1
        try:
            async with asyncio.timeout(self._limits.seconds):
                await SHARED_THREADS.run(certificates)
                async with (
                    guarded_client(self._url, timeout=None) as client,
                    client.stream("POST", self._url, **content) as answer,
                ):
                    return answer
        except TimeoutError:
            raise UnansweredError("didn't answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, PullError) as error:
            # The text may contain the URL.
            raise UnansweredError(f"can't be reached: {type(error).__name__}") from None
        finally:
            self._asking -= 1
