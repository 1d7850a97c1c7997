"""Asks the administrator's own server whether somebody may publish, by ``server.publish_webhook``."""

from __future__ import annotations

import asyncio

import httpx

from origin.ingest.admission import RefusalReason, RefusedError
from origin.ingest.limits import DEFAULT_LIMITS, IngestLimits
from packager.sources.guarded_http import certificates, guarded_client
from packager.sources.published import Publisher
from packager.sources.retries import PullError


class PublishWebhook:
    """Asks for each publisher anew, by ``POST`` with JSON; any status of success allows (RFC 9110 §15.3).

    Args:
        url: what is asked. It is the administrator's, so it may be in a private network or on this machine.
        limits: how long an answer may take, and how many are waited for.
    """

    def __init__(self, url: str, limits: IngestLimits = DEFAULT_LIMITS) -> None:
        self._url = url
        self._limits = limits
        self._asking = 0

    async def __call__(self, channel: str, publisher: Publisher) -> None:
        """Ask about a publisher whose key was checked; the key isn't told.

        Raises:
            RefusedError: it doesn't allow it, or doesn't answer in time.
        """
        if self._asking >= self._limits.webhook_requests:
            raise _unanswered("has too much to answer")
        self._asking += 1
        try:
            async with asyncio.timeout(self._limits.webhook_seconds):
                status = await self._post(channel, publisher)
        except TimeoutError:
            raise _unanswered("didn't answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, PullError, ExceptionGroup) as error:
            # A group comes of a port beyond 65535. The text may contain the URL.
            raise _unanswered(f"can't be asked: {type(error).__name__}") from None
        finally:
            self._asking -= 1
        if not 200 <= status < 300:
            line = f"the server's publish_webhook denied it with {status}"
            raise RefusedError(RefusalReason.DENIED, line)

    async def _post(self, channel: str, publisher: Publisher) -> int:
        """Return the status of the answer; its body isn't read."""
        await asyncio.to_thread(certificates)
        asked = {
            "channel": channel,
            "protocol": publisher.protocol,
            "address": publisher.address,
            "agent": publisher.agent,
        }
        async with (
            guarded_client(self._url, timeout=None) as client,
            client.stream("POST", self._url, json=asked) as answer,
        ):
            return answer.status_code


def _unanswered(what: str) -> RefusedError:
    return RefusedError(RefusalReason.UNANSWERED, f"the server's publish_webhook {what}")
