"""Asks the administrator's own server whether somebody may publish, by ``server.publish_webhook``."""

from __future__ import annotations

from origin.access.limits import WebhookLimits
from origin.access.webhook import DeniedError, UnansweredError, Webhook
from origin.ingest.admission import RefusalReason, RefusedError
from origin.ingest.limits import DEFAULT_LIMITS, IngestLimits
from packager.sources.publication import Publisher


class PublishWebhook:
    """Asks a server of the administrator's whether a publisher may publish, for each one anew.

    Args:
        limits: how long an answer may take, and how many are waited for.
    """

    def __init__(self, url: str, limits: IngestLimits = DEFAULT_LIMITS) -> None:
        bounds = WebhookLimits(seconds=limits.webhook_seconds, requests=limits.webhook_requests)
        self._webhook = Webhook(url, bounds)

    async def __call__(self, channel: str, publisher: Publisher) -> None:
        """Ask about a publisher whose key was checked; the key isn't told.

        Raises:
            RefusedError: it doesn't allow it, or doesn't answer in time.
        """
        asked = {
            "channel": channel,
            "protocol": publisher.protocol,
            "address": publisher.address,
            "agent": publisher.agent,
        }
        try:
            await self._webhook.ask(asked)
        except DeniedError as error:
            raise RefusedError(RefusalReason.DENIED, f"the server's publish_webhook {error}") from None
        except UnansweredError as error:
            raise RefusedError(RefusalReason.UNANSWERED, f"the server's publish_webhook {error}") from None
