"""Has a running server read its configuration again, and says what needs a restart: ``headwater reload``."""

from __future__ import annotations

import asyncio
import ssl

import httpx
import msgspec

from origin.config.errors import CommandError
from origin.tls.client_trust import explained, led_to_https
from packager.sources.pullers.guarded_http import guarded_client, read_content
from packager.sources.retries import PullError

ANSWER_SECONDS = 60.0

MOST_ANSWER_BYTES = 1 << 20
"""Longest answer that is read."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})

LINE_CHARACTERS = 500
"""Most characters of a refusal that are shown."""


class _ReloadAnswer(msgspec.Struct):
    needs_restart: list[str]


_DECODER = msgspec.json.Decoder(_ReloadAnswer)


def reload(server: str, token: str, trust: ssl.SSLContext) -> list[str]:
    """Ask a server to read its configuration again; return the changed options that need a restart.

    Args:
        trust: by which a server with HTTPS is verified.

    Raises:
        CommandError: it can't be asked, or can't use the configuration.
    """
    status, location, content = asyncio.run(_asked(server, token, trust))
    if status in REDIRECTS and (led := led_to_https(server, location)) is not None:
        status, _, content = asyncio.run(_asked(led, token, trust))
    if status != 200:
        text = content.decode("utf-8", "replace").strip()[:LINE_CHARACTERS]
        raise CommandError(f"{server} answers {status}: {text}")
    try:
        return _DECODER.decode(content).needs_restart
    except msgspec.DecodeError:
        raise CommandError(f"{server} doesn't answer as this program's server does") from None


async def _asked(server: str, token: str, trust: ssl.SSLContext) -> tuple[int, str, bytes]:
    """Return the status, the Location and the content of the answer."""
    headers = {"authorization": f"Bearer {token}", "accept-encoding": "identity"}
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            guarded_client(server, trust=trust, is_direct=True, timeout=ANSWER_SECONDS) as client,
            client.stream("POST", f"{server}/api/reload", headers=headers) as answer,
        ):
            location = answer.headers.get("location", "")
            return answer.status_code, location, await read_content(answer, MOST_ANSWER_BYTES)
    except (httpx.HTTPError, httpx.InvalidURL, PullError, TimeoutError) as error:
        reason = explained(error)
        raise CommandError(f"{server} can't be asked ({reason}): name the server with --to") from None
