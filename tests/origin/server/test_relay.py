"""The relay of ``docs/events.md`` in a whole server: configuration, Python client, metrics and secrets."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import io
import json
import re
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from origin.config.load import load
from origin.config.options import ConfigError
from tests.completion_server import KEY, completing, streaming, tokens
from tests.conftest import ServerProcess, start_server
from tests.event_server import TOKEN

PAGE = (Path(__file__).parents[3] / "docs" / "events.md").read_text()
SECTION = PAGE.partition("\n## Relays of token streams\n")[2].partition("\n## ")[0]
CONFIGURATION, PYTHON = (textwrap.dedent(one) for one in re.findall(r"\n\n((?:    .+\n)+)", SECTION))


def configuration(folder: Path, relay: str) -> Path:
    """Write the documented configuration with an upstream server that is there."""
    text = CONFIGURATION.replace("http://127.0.0.1:8080/v1/chat/completions", relay)
    text = text.replace('relay_key = "…"', f'relay_key = "{KEY}"').replace("relay_keep = true ", "")
    path = folder / "headwater.toml"
    path.write_text(f'{text}publish_token = "{TOKEN}"\n[library]\npath = "{folder}"\n')
    path.chmod(0o600)
    return path


def fetched(url: str, last: str = "") -> str:
    """Fetch an answer, or what there is of it up to this line, as the channel of a relay stays open."""
    with urllib.request.urlopen(url, timeout=120) as answer:
        lines = []
        for line in answer:
            lines.append(line.decode())
            if lines[-1] == last:
                break
        return "".join(lines)


@pytest.mark.promise("/relay/NAME/v1/chat/completions", "events.relay_key")
async def test_the_documented_relay_is_read_with_its_three_lines(tmp_path: Path) -> None:
    async with completing(streaming(tokens("Hel", "lo"))) as upstream:
        path = configuration(tmp_path, upstream.url)

        def use() -> tuple[str, str, str, ServerProcess]:
            server = start_server("--config", str(path), "--port", "0")
            try:
                program = PYTHON.replace("http://127.0.0.1:8000", server.url)
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(f"import openai\nPUBLISH_TOKEN = {TOKEN!r}\n{program}", {})
                events = fetched(f"{server.url}/events/answers", "event: end\n")
                return printed.getvalue(), events, fetched(f"{server.url}/metrics"), server
            finally:
                server.stop()

        printed, events, metrics, server = await asyncio.to_thread(use)
    assert printed == "Hello"
    assert [line for line in events.splitlines() if line == "data: [DONE]"]
    assert upstream.asked[0].fields["authorization"] == f"Bearer {KEY}"
    assert 'headwater_relay_requests_total{channel="answers"} 1.0' in metrics
    assert 'headwater_relay_running{channel="answers"} 0.0' in metrics
    for name in ("cancelled_total", "failed_total", "first_event_seconds_bucket", "cleanup_seconds_bucket"):
        assert f'headwater_relay_{name}{{channel="answers"' in metrics
    assert KEY not in metrics + events + server.text()


@pytest.mark.promise("/relay/NAME", "events.relay")
async def test_an_answer_is_read_whole_by_who_comes_after_a_restart_where_history_is_kept(
    tmp_path: Path,
) -> None:
    chunks = tokens("Hel", "lo")
    async with completing(streaming(chunks)) as upstream:
        path = configuration(tmp_path, upstream.url)
        text = path.read_text().replace('name = "answers"', 'name = "answers"\nhistory = "1h"')
        path.write_text(f'[server]\ndata = "{tmp_path}/data"\n{text}')

        def use() -> tuple[list[dict[str, str]], list[dict[str, str]], list[dict[str, str]], int]:
            server = start_server("--config", str(path), "--port", "0")
            address = "{}/events/answers?since={}"
            try:
                body = json.dumps(
                    {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
                )
                fields = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
                asking = urllib.request.Request(f"{server.url}/relay/answers", body.encode(), fields)
                with urllib.request.urlopen(asking, timeout=120) as answer:
                    assert (answer.status, answer.headers["location"]) == (202, "/events/answers")
                    since = json.load(answer)["since"]
                seen: list[dict[str, str]] = []
                while not seen or seen[-1]["event"] != "end":
                    last = seen[-1]["id"] if seen else since
                    seen += json.loads(fetched(f"{address.format(server.url, last)}&wait=60") or "[]")
            finally:
                server.stop()
            server = start_server("--config", str(path), "--port", "0")
            try:
                resumed = json.loads(fetched(address.format(server.url, seen[0]["id"])))
                new = json.loads(fetched(address.format(server.url, "")))
                with urllib.request.urlopen(
                    address.format(server.url, seen[-1]["id"]), timeout=120
                ) as nothing:
                    return seen, resumed, new, nothing.status
            finally:
                server.stop()

        seen, resumed, new, behind_the_end = await asyncio.to_thread(use)
    assert [event["data"] for event in seen] == [*chunks, "{}"]
    assert resumed == seen[1:]
    assert new == seen
    assert behind_the_end == 204
    assert len(upstream.asked) == 1


async def test_openais_client_prints_the_reason_of_every_refusal(tmp_path: Path) -> None:
    import openai  # not by each process of the tests, as it takes a second

    async with completing(streaming(tokens("Hello"))) as upstream:
        path = configuration(tmp_path, upstream.url)
        path.write_text(f"{path.read_text()}[limits]\nrelay_request_bytes = 1000\n")

        def refusals() -> list[tuple[str, str]]:
            server = start_server("--config", str(path), "--port", "0")
            told = []

            def ask(relay: str, key: str, content: str = "Hi") -> None:
                base = f"{server.url}/relay/{relay}/v1"
                client = openai.OpenAI(base_url=base, api_key=key, max_retries=0)
                with pytest.raises(openai.APIStatusError) as refused:
                    client.chat.completions.create(
                        model="m", messages=[{"role": "user", "content": content}], stream=True
                    )
                body = refused.value.body
                assert isinstance(body, dict)
                told.append((refused.type.__name__, str(body["message"])))

            try:
                ask("nothing", TOKEN)
                ask("answers", TOKEN, "x" * 2000)
                for content in (None, b"{}"):
                    unknown = urllib.request.Request(f"{server.url}/relay/answers/v1/nothing", content)
                    with pytest.raises(urllib.error.HTTPError) as missing:
                        urllib.request.urlopen(unknown, timeout=120)
                    error = json.load(missing.value)["error"]
                    assert "what is: chat/completions, models, embeddings" in error["message"]
                    assert (error["code"], missing.value.headers.get_content_type()) == (
                        404,
                        "application/json",
                    )
                # A page of another site, which access control refuses before any route.
                foreign = {"Origin": "https://elsewhere.example", "Content-Type": "application/json"}
                chat = f"{server.url}/relay/answers/v1/chat/completions"
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(urllib.request.Request(chat, b"{}", foreign), timeout=120)
                told.append(("403", json.load(refused.value)["error"]["message"]))
                ask("answers", "wrong")
                with concurrent.futures.ThreadPoolExecutor(20) as threads:
                    list(threads.map(lambda _: ask("answers", "wrong"), range(40)))
                return told
            finally:
                server.stop()

        told = await asyncio.to_thread(refusals)
    assert told[:3] == [
        ("NotFoundError", "no such relay"),
        ("APIStatusError", "the body has more than 1000 bytes"),
        ("403", "pages of other sites may not change anything here"),
    ]
    assert told[3][0] == "AuthenticationError"
    assert "publish_token" in told[3][1]
    # Who goes on guessing has to wait, and is told so.
    waits = "wrong keys came from this address: short ones are compared again a little later"
    assert ("RateLimitError", waits) in told


def test_the_key_of_the_upstream_server_is_not_printed(tmp_path: Path) -> None:
    path = configuration(tmp_path, f"http://user:{KEY}@127.0.0.1:1/v1/chat/completions")
    program = "from origin.cli.main import main; main()"
    command = [sys.executable, "-c", program, "serve", "--config", str(path), "--print-config"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "relay_share = true" in done.stdout
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "address",
    [
        "ftp://127.0.0.1/",
        "127.0.0.1:8080",
        "http://",
        "http://a:x/",
        r"http://a.example\\@127.0.0.1/",
        "http://a b/",
    ],
)
def test_what_is_no_address_of_a_server_is_refused_at_the_start(tmp_path: Path, address: str) -> None:
    path = tmp_path / "headwater.toml"
    path.write_text(f"[[events]]\nname = 'a'\nrelay = '{address}'\n")
    with pytest.raises(ConfigError, match=r"relay of 'a': allowed: an address"):
        load(path, {}, {})


@pytest.mark.parametrize("name", ["Content-Length", "Host", "key: x", "api key"])
def test_a_key_goes_in_no_field_that_means_something_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / "headwater.toml"
    path.write_text(f"[[events]]\nname = 'a'\nrelay = 'http://a.example/'\nrelay_key_header = '{name}'\n")
    with pytest.raises(ConfigError, match="relay_key_header"):
        load(path, {}, {})
