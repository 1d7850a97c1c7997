"""Answers that are kept, in a whole server, as ``docs/events.md`` has them: with workers and restarts."""

from __future__ import annotations

import asyncio
import json
import re
import textwrap
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.completion_server import Asked, CompletionServer, completing
from tests.conftest import ServerProcess, start_server
from tests.cut_connections import cutting
from tests.event_server import TOKEN
from tests.streamed_answers import named, paced, response_events
from tests.waiting import wait_for

PAGE = (Path(__file__).parents[3] / "docs" / "events.md").read_text()
SECTION = PAGE.partition("\n## Answers that are kept\n")[2].partition("\n## ")[0]
BLOCKS = [textwrap.dedent(one) for one in re.findall(r"\n\n((?:    .+\n)+)", SECTION)]
PYTHON = next(one for one in BLOCKS if one.startswith("import openai"))
TABLE = next(one for one in BLOCKS if one.startswith("[[relay]]"))
TEXTS = [f"word-{number} " for number in range(40)]
EVENTS = [named(one) for one in response_events(*TEXTS)]


slowly = paced(EVENTS)


def configured(folder: Path, upstream: CompletionServer, workers: int) -> Path:
    path = folder / "headwater.toml"
    path.write_text(
        f"""
[server]
data = "{folder}/data"
workers = {workers}
[library]
path = "{folder}"
[[events]]
name = "answers"
relay = "{upstream.url}"
publish_token = "{TOKEN}"
history = "1h"
"""
    )
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_documented_client_loses_and_doubles_nothing_when_its_connection_is_cut(
    tmp_path: Path, workers: int
) -> None:
    async with completing(slowly) as upstream:
        path = configured(tmp_path, upstream, workers)
        server = await asyncio.to_thread(start_server, "--config", str(path), "--port", "0")
        try:
            port = int(server.url.rpartition(":")[2])
            sizes = [3000, 900, 2500]
            async with cutting([port], sizes) as cut:
                program = PYTHON.replace("127.0.0.1:8000", f"127.0.0.1:{cut}")
                said: dict[str, Any] = {"PUBLISH_TOKEN": TOKEN}
                await asyncio.to_thread(exec, program, said)
            assert (said["text"], sizes) == ("".join(TEXTS), [])
            assert len(upstream.asked) == 1
            assert not re.search(r"word-\d|Hi", server.text())
        finally:
            await asyncio.to_thread(server.stop)


def fetched(url: str, method: str = "GET", **question: Any) -> tuple[int, dict[str, Any]]:
    body = json.dumps(question).encode() if question else None
    fields = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    asking = urllib.request.Request(url, body, fields, method=method)
    try:
        with urllib.request.urlopen(asking, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def is_on_disk(folder: Path, text: str) -> bool:
    return any(text.encode() in one.read_bytes() for one in folder.rglob("*") if one.is_file())


@pytest.mark.promise("/relay/NAME/v1/responses", "/relay/NAME/v1/API/ID")
async def test_a_server_that_is_killed_keeps_what_came_and_its_readers_get_an_error(tmp_path: Path) -> None:
    import openai  # not by each process of the tests, as it takes a second

    async def stall(asked: Asked) -> None:
        await asked.head()
        for one in EVENTS[:10]:
            await asked.raw(one)
        await asyncio.Event().wait()

    async with completing(stall) as upstream:
        path = configured(tmp_path, upstream, 1)
        (last,) = re.findall(r"word-\d+", EVENTS[9].decode())

        def use() -> tuple[list[Any], list[Any], str, int]:
            def client(server: ServerProcess) -> openai.OpenAI:
                return openai.OpenAI(base_url=f"{server.url}/relay/answers/v1", api_key=TOKEN, max_retries=0)

            first = start_server("--config", str(path), "--port", "0")
            try:
                stream = client(first).responses.create(model="m", input="Hi", stream=True)
                seen = [next(stream) for _ in range(10)]
                place = f"{first.url}{stream.response.headers['location']}?since="
                with urllib.request.urlopen(
                    urllib.request.Request(place, headers={"Authorization": f"Bearer {TOKEN}"}), timeout=120
                ) as answer:
                    assert len(json.load(answer)) == 10
                # A busy disk has the newest of them later.
                wait_for(lambda: is_on_disk(tmp_path / "data", last), "the tenth event's file")
            finally:
                first.process.kill()
                first.process.wait()
            second = start_server("--config", str(path), "--port", "0")
            try:
                api = client(second)
                rest = list(api.responses.retrieve("resp_7f3a", stream=True, starting_after=4))
                status = api.responses.retrieve("resp_7f3a").status
                deleted = fetched(f"{second.url}/relay/answers/v1/responses/resp_7f3a", "DELETE")
                assert deleted[1]["deleted"] is True
                gone = fetched(f"{second.url}/relay/answers/v1/responses/resp_7f3a?stream=true")
                return seen, rest, str(status), gone[0]
            finally:
                second.stop()

        seen, rest, status, gone = await asyncio.to_thread(use)
    assert [one.sequence_number for one in seen] == list(range(10))
    assert [one.type for one in rest] == ["response.output_text.delta"] * 5 + ["error"]
    assert [one.sequence_number for one in rest] == list(range(5, 11))
    assert (status, gone) == ("failed", 404)
    assert not is_on_disk(tmp_path / "data", "word-3")


async def test_the_documented_table_relays_by_the_next_server_and_health_names_the_one_that_fails(
    tmp_path: Path,
) -> None:
    import openai

    async def refuse(asked: Asked) -> None:
        await asked.answer("500 Internal Server Error", '{"error": {"message": "broken"}}')

    async with completing(refuse) as broken, completing(slowly) as good:
        bases = [one.url.removesuffix("/chat/completions") for one in (broken, good)]
        good_host = bases[1].split("/")[2]
        text = TABLE.replace("http://127.0.0.1:8080/v1", bases[0]).replace("https://api.example/v1", bases[1])
        text = re.sub(r"token = .*", "", text).replace(
            '["…", "…"]', '["key-of-a-server-1", "key-of-a-server-2"]'
        )
        path = tmp_path / "headwater.toml"
        path.write_text(f'{text}[library]\npath = "{tmp_path}"\n')
        path.chmod(0o600)

        def use() -> tuple[str, dict[str, Any], dict[str, Any], str]:
            server = start_server("--config", str(path), "--port", "0")
            try:
                told = r"relay/assistant/v1 with the token (\S+)"
                token, *_ = wait_for(lambda: re.findall(told, server.text()), "the token")
                client = openai.OpenAI(base_url=f"{server.url}/relay/assistant/v1", api_key=token)
                said = ""
                for _ in range(4):
                    said = ""
                    for event in client.responses.create(model="small", input="Hi", stream=True):
                        said += event.delta if event.type == "response.output_text.delta" else ""
                with urllib.request.urlopen(f"{server.url}/health", timeout=120) as answer:
                    health = json.load(answer)
                with urllib.request.urlopen(f"{server.url}/api/events", timeout=120) as answer:
                    listed = json.load(answer)
                with urllib.request.urlopen(f"{server.url}/metrics", timeout=120) as answer:
                    labels = 'gen_ai_operation_name="responses",gen_ai_request_model="meta/tiny-3"'
                    labels += rf',relay="assistant",server_address="{good_host}"'
                    assert re.search(
                        rf"^gen_ai_server_time_to_first_token_seconds_count{{.*{labels}.*}} 4\.0$",
                        answer.read().decode(),
                        re.MULTILINE,
                    )
                return said, health, listed, server.text()
            finally:
                server.stop()

        said, health, listed, log = await asyncio.to_thread(use)
        assert said == "".join(TEXTS)
        assert "upstream server 1 of 2" in health["troubles"]["relay/assistant"]
        assert listed in ({"events": []}, [])
        assert len(good.asked) == 4
        assert good.asked[0].options["model"] == "meta/tiny-3"
        assert good.asked[0].fields["authorization"] == "Bearer key-of-a-server-2"
        assert not re.search("key-of-a-server|word-", log)
