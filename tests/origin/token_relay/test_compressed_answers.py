"""Upstream servers that compress though nobody asked for it: callers get what clients get without a relay."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import replace

import pytest

from tests.completion_server import Asked, Script, completing, tokens
from tests.event_server import TOKEN
from tests.relay_server import PATIENT, relaying
from tests.streamed_answers import said, without_comments

EVENTS = "".join(f"data: {data}\n\n" for data in tokens("Hel", "lo")).encode()
CODED = {"gzip": gzip.compress(EVENTS), "x-gzip": gzip.compress(EVENTS), "deflate": zlib.compress(EVENTS)}
CHAT = "/relay/test/v1/chat/completions"


def sending(
    data: bytes, coding: str = "gzip", kind: str = "text/event-stream", status: str = "200 OK", step: int = 7
) -> Script:
    """Answer with this body in small pieces."""

    async def script(asked: Asked) -> None:
        assert asked.fields["accept-encoding"] == "identity"
        fields = f"content-type: {kind}\r\ncontent-encoding: {coding}\r\ntransfer-encoding: chunked"
        await asked.head(f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n".encode())
        for at in range(0, len(data), step):
            await asked.raw(data[at : at + step])
        await asked.end()

    return script


def sent_to_all(data: bytes, coding: str) -> Script:
    """Answer likewise, whatever is accepted: openai's client accepts these codings."""

    async def script(asked: Asked) -> None:
        asked.fields["accept-encoding"] = "identity"
        await sending(data, coding)(asked)

    return script


@pytest.mark.clause("RFC 9110 §8.4.1")
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_openais_client_gets_a_compressed_answer_as_without_a_relay(coding: str) -> None:
    async with completing(sent_to_all(CODED[coding], coding)) as upstream:
        direct = await said(upstream.url.removesuffix("/chat/completions"), "k")
    assert direct == "Hello"
    async with relaying(sending(CODED[coding], coding)) as server:
        assert await said(server.base, TOKEN) == direct
        assert server.relay.counters.failed == 0


@pytest.mark.parametrize("coding", [*CODED, "GZIP"])
async def test_a_compressed_answer_is_passed_on_without_its_coding(coding: str) -> None:
    async with relaying(sending(CODED[coding.lower()], coding)) as server:
        answer = await server.ask(CHAT, stream=True)
    assert answer.status_code == 200
    assert "content-encoding" not in answer.headers
    assert without_comments(answer.content) == EVENTS


async def test_a_whole_answer_and_an_error_are_decoded_likewise() -> None:
    whole = {"id": "c", "object": "chat.completion", "choices": []}
    packed = gzip.compress(json.dumps(whole).encode())
    async with relaying(sending(packed, kind="application/json")) as server:
        answer = await server.ask(CHAT)
        assert (answer.status_code, answer.json()) == (200, whole)
    told = {"error": {"message": "top_p must be > 0", "type": "validation", "param": None, "code": None}}
    packed = gzip.compress(json.dumps(told).encode())
    async with relaying(sending(packed, kind="application/json", status="400 Bad Request")) as server:
        answer = await server.ask(CHAT, stream=True)
        assert (answer.status_code, answer.json()) == (400, told)


BOUND = 1 << 20
BOUNDED = replace(PATIENT, answer_bytes=BOUND)


def without_content() -> bytes:
    """Return gzip whose blocks have nothing in them (RFC 1951 §3.2.4), and never end."""
    made = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    return made.compress(b"") + made.flush(zlib.Z_FULL_FLUSH) + bytes.fromhex("000000ffff") * (BOUND // 4)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (gzip.compress(b": nothing\n" * (BOUND // 2)), f"more than {BOUND} bytes"),
        (without_content(), f"more than {BOUND} bytes"),
        (b"data: [DONE]\n\n", "it isn't in its content coding"),
        # RFC 1951 §3.2.3: no block has this type.
        (CODED["gzip"][:10] + b"\xff" * 9, "it isn't in its content coding"),
    ],
    ids=["much", "nothing", "plain", "broken"],
)
async def test_what_is_broken_or_expands_without_end_is_refused(data: bytes, told: str) -> None:
    async with relaying(sending(data, step=1 << 16), BOUNDED) as server:
        answer = await server.ask(CHAT, stream=True)
        # Comments of the upstream server may have begun the caller's answer.
        error = without_comments(answer.content).decode().strip().removeprefix("data: ")
        assert told in json.loads(error)["error"]["message"]
        assert server.relay.counters.failed == 1


async def test_a_coding_that_isnt_known_is_named() -> None:
    async with relaying(sending(EVENTS, "br")) as server:
        answer = await server.ask(CHAT, stream=True)
        assert answer.status_code == 502
        assert "in the coding 'br'" in answer.json()["error"]["message"]
