"""How HTTP tells a publisher that it may not publish, or go on."""

from __future__ import annotations

from starlette.responses import Response

from origin.ingest.admission import RefusalReason
from origin.ingest.limits import IngestLimits
from origin.responses.refusal import plain_refusal

STATUS = {
    RefusalReason.UNKNOWN_CHANNEL: 404,
    RefusalReason.OTHER_SOURCE: 403,
    RefusalReason.WRONG_KEY: 401,
    RefusalReason.DENIED: 403,
    RefusalReason.UNANSWERED: 503,
    RefusalReason.TAKEN: 409,
    RefusalReason.TOO_MANY: 503,
    RefusalReason.CLOSED: 503,
}
"""The status with which HTTP says why somebody may not publish."""

CLOSING = {"connection": "close", "cache-control": "no-store"}
"""What is left of a body isn't read: the connection can't be used for another request."""


def refusal(status: int, reason: str, limits: IngestLimits) -> Response:
    """Make the answer that tells why, and where it makes sense when to come again."""
    later = {"retry-after": str(limits.retry_seconds)} if status == 503 else {}
    return plain_refusal(status, reason, {**CLOSING, **later})
