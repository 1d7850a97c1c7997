"""Has a running server read its configuration again, and says what needs a restart: ``headwater reload``."""

from __future__ import annotations

import ssl

import httpx
import msgspec

from origin.config.errors import CommandError
from origin.tls.client_trust import explained, led_to_https

ANSWER_SECONDS = 60.0

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
    answer = _asked(server, token, trust)
    if answer.is_redirect and (led := led_to_https(server, answer.headers["location"])) is not None:
        answer = _asked(led, token, trust)
    if answer.status_code != 200:
        raise CommandError(f"{server} answers {answer.status_code}: {answer.text.strip()[:LINE_CHARACTERS]}")
    try:
        return _DECODER.decode(answer.content).needs_restart
    except msgspec.DecodeError:
        raise CommandError(f"{server} doesn't answer as this program's server does") from None


def _asked(server: str, token: str, trust: ssl.SSLContext) -> httpx.Response:
    try:
        return httpx.post(
            f"{server}/api/reload",
            headers={"authorization": f"Bearer {token}"},
            timeout=ANSWER_SECONDS,
            trust_env=False,
            verify=trust,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = explained(error)
        raise CommandError(f"{server} can't be asked ({reason}): name the server with --to") from None
