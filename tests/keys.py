"""The key that tests present where something is changed: publishing, ends and beginnings of events."""

from __future__ import annotations

ADMIN_TOKEN = "of-the-tests-alone-2c9d"
"""``server.admin_token`` of the servers that tests start."""

BEARER = {"authorization": f"Bearer {ADMIN_TOKEN}"}
"""Header fields that present it."""

BEARER_LINE = f"Authorization: Bearer {ADMIN_TOKEN}"
"""The same as a line of a request's head."""
