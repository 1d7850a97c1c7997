"""``POST /api/sign`` makes addresses with tokens, and ``/api/signed`` checks those of a cache in front.

``GET /api/sign`` tells the administrator whether any address needs a token.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.access.address_tokens import expiry, sign_address
from origin.access.policy import AccessPolicy
from origin.access.protected_addresses import TokenGuard
from origin.access.request_tokens import addressed_token, client_of, query_token, unaddressed_token
from origin.access.token_keys import TokenKeys
from origin.http.path_prefixes import TOKEN_PREFIX, split_token
from origin.responses.base_url import base_url
from origin.responses.json_response import UNCACHED, as_json
from origin.responses.refusal import plain_refusal
from origin.responses.request_body import receive_body, require_type
from origin.server.services.signable_addresses import SignableAddresses
from packager.threads import SHARED_THREADS

ADDRESS = "/api/sign"

CHECK_ADDRESS = "/api/signed"

ORIGINAL = ("x-original-uri", "x-forwarded-uri")
"""Header fields in which nginx and others say which address a client has asked for."""

MOST_BODY_BYTES = 16 << 10


class SigningRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"lifetime": "for"}):
    """The body of a request.

    Attributes:
        path: of the address, percent-encoded, perhaps with a query.
        lifetime: such as ``2h``.
        name: of the viewer, for logs.
        clips: whether parts of films may be fetched by ``start`` and ``end``.
        publish: whether one may publish to the path.
        address: of the only client or network that may use it, such as ``192.0.2.7``; empty for any.
    """

    path: str
    lifetime: str
    name: str = ""
    clips: bool = False
    publish: bool = False
    address: str = ""


_WANTED = msgspec.json.Decoder(SigningRequest)


def check_routes(guard: TokenGuard | None) -> list[BaseRoute]:
    """Make the route by which a proxy or a cache asks whether a request may be answered, in few bytes.

    Args:
        guard: None where no address needs a token.
    """

    async def check(request: Request) -> Response:
        asked = next((request.headers[name] for name in ORIGINAL if name in request.headers), "")
        path, _, query = asked.partition("?")
        token, path = split_token(path)
        token = unaddressed_token(request.scope["headers"], token or query_token(query))
        client = client_of(request.scope)
        if guard is not None:
            await guard.keys.fetch_missing(token)
        grant = None if guard is None else guard.decide(token, unquote(path), query, client)
        if guard is not None and grant is not None:
            agent = request.headers.get("user-agent", "")
            session = grant.refusal or guard.session(grant, client, agent)
            if isinstance(session, str):
                return plain_refusal(403, session, UNCACHED)
        return Response(status_code=204, headers=UNCACHED)

    return [Route(CHECK_ADDRESS, check)]


def routes(keys: TokenKeys, access: AccessPolicy, served: Callable[[], SignableAddresses]) -> list[BaseRoute]:
    """Make the route.

    Args:
        served: returns the addresses that can be signed, of what is served now.
    """

    async def sign(request: Request) -> Response:
        await access.require_admin(request)
        if request.method != "POST":
            return as_json({"signed": bool(keys.signing)})
        require_type(request, "application/json")
        body = await receive_body(request, MOST_BODY_BYTES)
        if not keys.signing:
            return plain_refusal(409, 'nothing needs a token: set access = "signed"', UNCACHED)
        # Asked behind a token, as the page does, the server's own address is the one without it.
        base = base_url(request).removesuffix(f"{TOKEN_PREFIX}{addressed_token(request.scope)}")
        try:
            wanted, addresses = _WANTED.decode(body), served()
            path = addresses.path_of(wanted.path, base)
            signed = sign_address(
                keys.signing,
                path,
                expiry(wanted.lifetime),
                wanted.name,
                allows_clips=wanted.clips,
                may_publish=wanted.publish,
                client=wanted.address,
            )
        except (msgspec.DecodeError, ValueError) as error:
            return plain_refusal(400, str(error), UNCACHED)
        faults = await SHARED_THREADS.run(lambda: addresses.faults(path, publishes=wanted.publish))
        found = {"url": f"{base}{signed.address}", "page": f"{base}{signed.page}"}
        is_open = addresses.is_open(unquote(path.partition("?")[0]))
        told = {"token": signed.token, "expires": signed.expires, "open": is_open, "faults": faults}
        return as_json({**found, **told})

    return [Route(ADDRESS, sign, methods=["GET", "POST"])]
