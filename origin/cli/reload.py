"""Has a running server read its configuration again, and says what needs a restart: ``headwater reload``."""

from __future__ import annotations

import httpx
import msgspec

from origin.config.errors import CommandError
from origin.config.options import Config

ANSWER_SECONDS = 60.0

LINE_CHARACTERS = 500
"""Most characters of a refusal that are shown."""

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  # compared, not bound


class _ReloadAnswer(msgspec.Struct):
    needs_restart: list[str]


_DECODER = msgspec.json.Decoder(_ReloadAnswer)


def address_of(config: Config) -> str:
    """Return the address at which a configuration's server is asked, on this machine.

    Raises:
        CommandError: the configuration leaves it open.
    """
    server = config.server
    port = server.admin_port or server.port
    if not port:
        raise CommandError("server.port is 0: name the server with --to, such as http://127.0.0.1:8000")
    host = EVERYWHERE.get(server.host, f"[{server.host}]" if ":" in server.host else server.host)
    return f"http://{host}:{port}"


def reload(server: str, token: str) -> list[str]:
    """Ask a server to read its configuration again; return the changed options that need a restart.

    Raises:
        CommandError: it can't be asked, or can't use the configuration.
    """
    try:
        answer = httpx.post(
            f"{server}/api/reload",
            headers={"authorization": f"Bearer {token}"},
            timeout=ANSWER_SECONDS,
            trust_env=False,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CommandError(f"{server} can't be asked ({error}): name the server with --to") from None
    if answer.status_code != 200:
        raise CommandError(f"{server} answers {answer.status_code}: {answer.text.strip()[:LINE_CHARACTERS]}")
    try:
        return _DECODER.decode(answer.content).needs_restart
    except msgspec.DecodeError:
        raise CommandError(f"{server} doesn't answer as this program's server does") from None
