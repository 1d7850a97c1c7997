"""``POST /api/revocations`` revokes JSON Web Tokens by their ``jti``, for the administrator alone."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.access.policy import AccessPolicy
from origin.access.revocation_file import RevocationFile
from origin.access.revocations import Revocation, digest_of
from origin.access.token_keys import TokenKeys
from origin.responses.json_response import UNCACHED, as_json
from origin.responses.refusal import plain_refusal
from origin.responses.request_body import receive_body, require_type

ADDRESS = "/api/revocations"

MOST_BODY_BYTES = 16 << 10

LONGEST_SECONDS = 10 * 365 * 86400.0
"""How long a revocation lasts whose request names no end."""


class RevocationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request.

    Attributes:
        jti: the identifier that the tokens have in common.
        until: the latest ``exp`` of the tokens, in seconds since the epoch; None if it isn't known.
    """

    jti: Annotated[str, Meta(min_length=1, max_length=2048)]
    until: Annotated[float, Meta(ge=0, le=1e11)] | None = None


_WANTED = msgspec.json.Decoder(RevocationRequest)


def routes(keys: TokenKeys, file: RevocationFile, access: AccessPolicy) -> list[BaseRoute]:
    """Make the route.

    Args:
        file: the place of revocations that survive a restart.
    """

    async def answer(request: Request) -> Response:
        await access.require_admin(request)
        revocations = keys.revocations
        if request.method != "POST":
            return as_json({"revoked": len(revocations), "most": revocations.most})
        require_type(request, "application/json")
        body = await receive_body(request, MOST_BODY_BYTES)
        if not keys.has_web:
            return plain_refusal(409, "only JSON Web Tokens have a jti: set access.jwt_keys", UNCACHED)
        try:
            wanted = _WANTED.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return plain_refusal(400, str(error), UNCACHED)
        now = time.time()
        until = now + LONGEST_SECONDS if wanted.until is None else min(wanted.until, now + LONGEST_SECONDS)
        if until <= now:
            return plain_refusal(400, "until: the tokens have expired already", UNCACHED)
        digest = digest_of(wanted.jti)
        if digest not in revocations and revocations.is_full:
            return plain_refusal(507, f"{revocations.most} tokens are revoked: name until", UNCACHED)
        revocations.merge([Revocation(digest, until)])
        try:
            await file.save()
        except OSError as error:
            line = f"the token is revoked, but not beyond a restart: {error.strerror or error}"
            return plain_refusal(507, line, UNCACHED)
        return as_json({"jti": wanted.jti, "until": until})

    return [Route(ADDRESS, answer, methods=["GET", "POST"])]
