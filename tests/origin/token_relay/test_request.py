"""What callers of a relay may ask for, and that the upstream server gets just what was checked."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from origin.responses.refusal import RefusalError
from origin.token_relay.completion_request import CompletionRequest, read_request
from origin.token_relay.limits import TokenRelayLimits

LIMITS = TokenRelayLimits()
HELLO = [{"role": "user", "content": "Hello ж 😀"}]


def asked(must_stream: bool = False, **options: Any) -> CompletionRequest:
    return read_request(
        json.dumps({"model": "m", "messages": HELLO} | options).encode(), LIMITS, must_stream=must_stream
    )


def refused(raw: bytes) -> str:
    with pytest.raises(RefusalError) as found:
        read_request(raw, LIMITS, must_stream=True)
    assert found.value.status == 400
    return str(found.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"n": 10**9}, "n: 1 to 16"),
        ({"n": 0}, "n: 1 to 16"),
        ({"n": True}, "n: 1 to 16"),
        ({"n": 1.5}, "n: 1 to 16"),
        ({"n": "2"}, "n: 1 to 16"),
        ({"best_of": 17}, "best_of: 1 to 16"),
        ({"max_tokens": 10**12}, "max_tokens: 1 to 1048576"),
        ({"max_completion_tokens": 10**30}, "max_completion_tokens: 1 to 1048576"),
        ({"messages": HELLO * 10**5}, "messages: 1 to 4096 of them"),
        ({"messages": []}, "messages: 1 to 4096 of them"),
        ({"messages": "Hello"}, "messages: 1 to 4096 of them"),
        ({"stream": "yes"}, "stream: true or false"),
        ({"logit_bias": {str(number): 1 for number in range(20_000)}}, "more than 10000 values"),
    ],
)
def test_numbers_that_would_keep_the_upstream_server_busy_are_refused(
    options: dict[str, Any], told: str
) -> None:
    with pytest.raises(RefusalError, match=told) as found:
        asked(**options)
    assert found.value.status == 400


@pytest.mark.parametrize(
    "options",
    [
        {"api_base": "http://127.0.0.1:9"},
        {"base_url": "http://127.0.0.1:9"},
        {"api_key": "k"},
        {"user_config": {"model_list": [{"litellm_params": {"api_base": "http://127.0.0.1:9"}}]}},
        {"extra_body": {"nested": [[{"api_base": "http://127.0.0.1:9"}]]}},
        {"fallbacks": [{"model": "m", "base_url": "http://127.0.0.1:9"}]},
    ],
)
def test_no_request_says_which_server_is_asked(options: dict[str, Any]) -> None:
    """CVE-2024-6587: a proxy followed api_base in a body, and sent its key there."""
    with pytest.raises(RefusalError, match="only the configuration says which server is asked"):
        asked(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"text": {"format": {"type": "json_schema", "schema": {"properties": {"api_key": {}}}}}},
        {"response_format": {"json_schema": {"schema": {"properties": {"base_url": {}}}}}},
        {"tool_choice": {"type": "function", "function": {"name": "f", "base_url": 1}}},
        {"format": {"type": "object", "properties": {"api_base": {"type": "string"}}}},
        {"max_tokens": -1},
        {"max_completion_tokens": -1},
    ],
)
def test_a_schema_may_have_any_names_and_no_limit_of_tokens_is_one(options: dict[str, Any]) -> None:
    sent = json.loads(asked(**options).body)
    assert {name: sent[name] for name in options} == options


def test_tools_and_messages_may_have_any_names() -> None:
    parameters = {"type": "object", "properties": {"base_url": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "get", "parameters": parameters}}]
    assert json.loads(asked(tools=tools).body)["tools"] == tools


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{", b'"x"', b"\xff", b"[" * 100_000, b'{"messages":' * 50_000, b'{"a": NaN}']
)
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    assert "JSON" in refused(raw) or "messages" in refused(raw)


def test_the_upstream_server_gets_the_values_that_were_checked() -> None:
    raw = b'{"model": "m", "n": 1000000000, "n": 1, "messages": [{"role": "user", "content": "Hi"}]}'
    body = read_request(raw, LIMITS, must_stream=True).body
    assert body.count(b'"n"') == 1
    assert json.loads(body) == {
        "model": "m",
        "n": 1,
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }
    assert refused(raw.replace(b'"n": 1000000000, "n": 1', b'"n": 1, "n": 1000000000')) == "n: 1 to 16"


def test_options_that_it_does_not_know_reach_the_upstream_server() -> None:
    options: dict[str, Any] = {
        "seed": 7,
        "temperature": 0.1,
        "stream_options": {"include_usage": True},
        "min_p": 0.05,
    }
    sent = json.loads(asked(stream=True, **options).body)
    assert sent == {"model": "m", "messages": HELLO, "stream": True} | options


def test_equal_requests_have_the_same_digest_and_others_another() -> None:
    one, same = asked(seed=1, top_p=0.5), asked(top_p=0.5, seed=1)
    assert one.digest == same.digest
    body = {"top_p": 0.5, "model": "m", "messages": HELLO, "seed": 1}
    spaced = json.dumps(body, indent=2, ensure_ascii=False).encode()
    assert one.digest != asked(seed=2, top_p=0.5).digest
    compact = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    assert len({read_request(raw, LIMITS, must_stream=True).digest for raw in (spaced, compact)}) == 1
    assert one.digest != asked(seed=1, top_p=0.5, must_stream=True).digest
    assert (one.is_stream, asked(stream=True).is_stream, asked(stream=None).is_stream) == (False, True, False)


@pytest.mark.parametrize("value", [b"{}", b"1", b'""', b'{"a":[]}'])
@pytest.mark.parametrize("name", [b"messages", b"tools", b"metadata"])
def test_millions_of_values_in_texts_are_never_made(name: bytes, value: bytes) -> None:
    listed = b'[{"role":"user","content":"Hi"}' + (b"," + value) * (3_500_000 // len(value)) + b"]"
    raw = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"' + name + b'":' + listed + b"}"
    tracemalloc.start()
    try:
        asked = read_request(raw, LIMITS, must_stream=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert listed in asked.body
    assert peak < 6 * len(raw)  # dictionaries alone would be thirty times as large


def test_many_options_are_refused_before_any_is_made() -> None:
    options = b"".join(b',"%x":1' % number for number in range(300_000))
    assert "bytes of options beside its texts" in refused(b'{"messages":[{"role":"user"}]' + options + b"}")
