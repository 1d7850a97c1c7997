"""Tokens in front of an ASGI application: how they are taken from paths, and how streams end with them."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from origin.access.protected_addresses import ProtectedAddresses, TokenGuard
from origin.access.token_keys import TokenKeys
from origin.access.token_middleware import TokenChecks, TokenPaths
from origin.http.path_prefixes import split_token, without_tokens
from origin.http1.body_writer import STREAM
from tests.patience import PATIENCE_SECONDS

TOKEN_KEYS = TokenKeys(["new:a-secret-of-november"])
KEYS = TOKEN_KEYS.signing
PROTECTED = ProtectedAddresses(folders={"private": True}, stations={"fm.mp3": True})


def soon(seconds: float = 3600) -> int:
    return int(time.time() + seconds)


def scope_of(raw_path: str, query: str = "", method: str = "GET") -> Scope:
    return {
        "type": "http",
        "method": method,
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "headers": [],
    }


async def answered(
    scope: Scope, app: ASGIApp | None = None, guard: TokenGuard | None = None
) -> list[Message]:
    """Give what is sent; the application's answer is the path that it saw."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        await send({"type": "http.response.start", "status": 200, "headers": []})
        told = (scope["raw_path"], scope["query_string"], scope.get("app_root_path", "").encode())
        await send({"type": "http.response.body", "body": b" ".join(told)})

    await TokenPaths(TokenChecks(app or echo, guard or TokenGuard(PROTECTED, TOKEN_KEYS)))(
        scope, receive, send
    )
    return sent


@pytest.mark.parametrize(
    "raw_path",
    [
        # The path says something open where the bytes that a handler reads say something protected.
        "/t/x%2Fmedia%2Fopen/media/private/film.mp4",
        "/t%2Fx/media/private/film.mp4",
        "/t/x/media/private/film.mp4",
        "/t/x/t/y/media/private/film.mp4",
        "/t//media/private/film.mp4",
        "//t/x/media/private/film.mp4",
        "/media/private/film.mp4",
        "/media/%70rivate/film.mp4",
    ],
)
async def test_what_the_application_reads_is_what_was_checked(raw_path: str) -> None:
    seen: list[Scope] = []

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        seen.append(scope)

    sent = await answered(scope_of(raw_path), look)
    if not sent:
        (scope,) = seen
        assert not scope["path"].startswith("/media/private")
        assert not scope["raw_path"].startswith(b"/media/private")
    else:
        assert sent[0]["status"] == 403


async def test_a_request_that_changes_something_is_left_to_the_keys_of_its_own() -> None:
    assert (await answered(scope_of("/radio/fm.mp3", method="PUT")))[0]["status"] == 200


@pytest.mark.parametrize(
    ("query", "kept"), [("token={}", ""), ("a=1&token={}&b=2", "a=1&b=2"), ("token={}&token={}", "")]
)
async def test_a_token_in_the_query_isnt_seen_by_the_application(query: str, kept: str) -> None:
    token = KEYS.sign("/media/private", soon())
    sent = await answered(scope_of("/media/private/a.mp4", query.replace("{}", token)))
    assert sent[1]["body"] == f"/media/private/a.mp4 {kept} /t/{token}".encode()
    assert dict(sent[0]["headers"])[b"cache-control"] == b"private"


@pytest.mark.parametrize("segment", ["x?", "x%3F", "%78", "x;", "x~", "", "x y"])
def test_only_characters_of_tokens_are_split_off_as_one(segment: str) -> None:
    path = f"/t/{segment}/vod/private/film.mp4/master.m3u8"
    assert split_token(path) == ("", path)


@pytest.mark.parametrize("raw_path", ["/admin/killsource", "/%61dmin/killsource", "/admin%2fkillsource"])
async def test_no_token_stands_before_what_a_get_changes(raw_path: str) -> None:
    assert (await answered(scope_of(f"/t/x{raw_path}")))[1]["body"].startswith(f"/t/x{raw_path} ".encode())


@pytest.mark.parametrize(
    "query", ["xtoken=1&tok%65n={}", "%74oken={}", " token={}", "a;token={}", "Token={}"]
)
async def test_the_name_of_a_querys_token_has_a_single_spelling(query: str) -> None:
    token = KEYS.sign("/media/private", soon())
    sent = await answered(scope_of("/media/private/a.mp4", query.replace("{}", token)))
    assert sent[0]["status"] == 403


@pytest.mark.parametrize(
    ("path", "query", "fields", "is_public"),
    [
        ("/t/{}/media/private/a.mp4", "", {}, True),
        ("/media/private/a.mp4", "", {"authorization": "Bearer {}"}, True),
        ("/media/private/a.mp4", "token={}", {}, False),
        ("/media/private/a.mp4", "", {"cookie": "headwater_token={}"}, False),
    ],
)
async def test_a_cache_in_front_keeps_nothing_by_tokens_that_it_cant_leave_out_of_its_keys(
    path: str, query: str, fields: dict[str, str], *, is_public: bool
) -> None:
    token = KEYS.sign("/media/private", soon())
    written = {name: value.replace("{}", token) for name, value in fields.items()}
    scope = with_fields(scope_of(path.replace("{}", token), query.replace("{}", token)), **written)
    sent = await answered(scope, guard=TokenGuard(PROTECTED, TOKEN_KEYS, keeps_public=True))
    assert sent[0]["status"] == 200
    assert (dict(sent[0]["headers"]).get(b"cache-control") != b"private") == is_public


async def test_a_playlist_is_led_to_the_path_of_its_token_with_the_rest_of_the_query() -> None:
    token = KEYS.sign("/vod/private", soon())
    sent = await answered(scope_of("/vod/private/a%20b/master.m3u8", f"token={token}&burn=1"))
    assert sent[0]["status"] == 307
    assert (
        dict(sent[0]["headers"])[b"location"].decode() == f"/t/{token}/vod/private/a%20b/master.m3u8?burn=1"
    )


def with_fields(scope: Scope, **fields: str) -> Scope:
    raw = [(name.encode(), value.encode()) for name, value in fields.items()]
    return {**scope, "headers": [(b"host", b"tv.example"), *raw]}


@pytest.mark.parametrize(
    ("cookie", "origin", "status"),
    [
        ("headwater_token={}", "", 200),
        ("a=b; headwater_token={}; c", "", 200),
        ("headwater_token={}", "https://tv.example", 200),
        ("headwater_token={}", "https://evil.example", 403),
        ("headwater_token={}", "null", 403),
        ("headwater_token={}x", "", 403),
        ("other={}", "", 403),
    ],
)
async def test_a_token_may_be_in_a_cookie_of_the_own_site(cookie: str, origin: str, status: int) -> None:
    token = KEYS.sign("/vod/private", soon())
    fields = {"cookie": cookie.replace("{}", token)} | ({"origin": origin} if origin else {})
    sent = await answered(with_fields(scope_of("/vod/private/a/master.m3u8"), **fields))
    assert sent[0]["status"] == status
    if status == 200:
        # Relative addresses lead to where the cookie counts, too.
        assert sent[1]["body"] == b"/vod/private/a/master.m3u8  "
        assert dict(sent[0]["headers"])[b"cache-control"] == b"private"


async def test_a_token_of_one_client_is_nobody_elses() -> None:
    token = KEYS.sign("/vod/private", soon(), client="192.0.2.7")
    statuses = []
    for client in (("192.0.2.7", 1), ("192.0.2.8", 1), None):
        scope = {**scope_of(f"/t/{token}/vod/private/a.mp4"), "client": client}
        statuses.append((await answered(scope))[0]["status"])
    assert statuses == [200, 403, 403]


class Cut:
    """The stream of a listener."""

    def __init__(self) -> None:
        self.is_cut = asyncio.Event()

    def abort(self) -> None:
        self.is_cut.set()


async def test_a_stream_ends_with_its_token() -> None:
    stream = Cut()

    async def play(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        message: dict[str, Any] = {"type": STREAM, "stream": stream}
        await send(message)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await stream.is_cut.wait()

    # A token of an hour whose streams end that much earlier: nothing depends on how fast this runs.
    guard = TokenGuard(PROTECTED, TOKEN_KEYS, grace_seconds=-3600)
    token = KEYS.sign("/radio/fm.mp3", soon())
    await answered(scope_of(f"/t/{token}/radio/fm.mp3"), play, guard)
    assert stream.is_cut.is_set()


async def test_the_connection_logs_the_path_without_the_token() -> None:
    scope = scope_of(f"/t/{KEYS.sign('/media/private', soon())}/media/private/a.mp4")
    await answered(scope)
    assert (scope["path"], scope["raw_path"]) == ("/media/private/a.mp4", b"/media/private/a.mp4")


def test_a_referer_is_logged_without_the_token() -> None:
    token = KEYS.sign("/live/demo", soon())
    seen = f"http://host/t/{token}/live/demo?a".encode()
    assert without_tokens(seen) == b"http://host/t//live/demo?a"
    assert (
        without_tokens(b"http://host/t/eyJhbGciOiJIUzI1NiJ9.e30.x/live/demo") == b"http://host/t//live/demo"
    )
    assert without_tokens(b"http://host/t/other") == b"http://host/t/other"
