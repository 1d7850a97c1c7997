"""The ``openai`` package for JavaScript, unchanged, in Node.js: it loses no token, and doubles none."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.clients.node_programs import node, printed
from tests.clients.openai_javascript import DOCUMENTED, next_line, program, read
from tests.completion_server import Asked, Script, completing
from tests.conftest import start_server
from tests.cut_connections import cutting
from tests.event_server import TOKEN
from tests.ports import kept_port
from tests.relay_server import relaying
from tests.streamed_answers import CHAT_CHUNKS, CHAT_EVENTS, KEPT, gated, named, paced, response_events
from tests.waiting import until

TEXTS = [f"word-{number} " for number in range(40)]
EVENTS = [named(one) for one in response_events(*TEXTS)]


async def test_the_documented_program_loses_and_doubles_nothing_when_its_connection_is_cut(
    tmp_path: Path,
) -> None:
    async with relaying(paced(EVENTS), keeping=KEPT) as server:
        sizes = [3000, 900, 2500]
        async with cutting([server.port], sizes) as cut:
            text = DOCUMENTED.replace("127.0.0.1:8000/relay/answers", f"127.0.0.1:{cut}/relay/test")
            text = text.replace("PUBLISH_TOKEN", json.dumps(TOKEN)) + "process.stdout.write(text);\n"
            said = await printed(tmp_path, text)
        assert (said, sizes) == ("".join(TEXTS), [])
        assert len(server.upstream.asked) == 1


async def test_a_response_is_read_on_behind_a_kill_of_the_client(tmp_path: Path) -> None:
    script, go_on = gated(EVENTS, 7)
    async with relaying(script, keeping=KEPT) as server:
        begin = "for await (const one of await client.responses.create(%s)) say(one);\n"
        question = '{ model: "m", input: "Hi", stream: true }'
        async with node(tmp_path, program(server.base, begin % question)) as first:
            seen = [await next_line(first) for _ in range(7)]
        await until(lambda: not server.relay.readers)
        go_on.set()
        identity, number = seen[0]["response"]["id"], seen[-1]["sequence_number"]
        again = f'"{identity}", {{ stream: true, starting_after: {number} }}'
        rest = f"for await (const one of await client.responses.retrieve({again})) say(one);\n"
        told = f'say((await client.responses.retrieve("{identity}")).output_text);\n'
        *more, text = read(await printed(tmp_path, program(server.base, rest + told)))
        assert [*seen, *more] == response_events(*TEXTS)
        assert text == "".join(TEXTS)
        assert len(server.upstream.asked) == 1


async def test_a_chat_completion_is_read_on_by_the_number_of_its_chunk(tmp_path: Path) -> None:
    script, go_on = gated(CHAT_EVENTS, 3)
    text = """
const question = { model: "tiny", messages: [{ role: "user", content: "Hello?" }], stream: true };
const { data, response } = await client.chat.completions.create(question).withResponse();
let number = -1;
for await (const chunk of data) {
  say(chunk);
  if ((number += 1) === 2) break;
}
const place = response.headers.get("location").split("/").at(-1);
const query = { stream: true, starting_after: number };
for await (const chunk of await client.get(`/chat/completions/${place}`, { query, stream: true })) say(chunk);
"""
    async with relaying(script, keeping=KEPT) as server:
        async with node(tmp_path, program(server.base, text)) as process:
            seen = [await next_line(process) for _ in range(3)]
            go_on.set()
            output, errors = await process.communicate()
            assert process.returncode == 0, errors.decode()
        assert [*seen, *read(output.decode())] == [json.loads(one) for one in CHAT_CHUNKS[:-1]]
        assert len(server.upstream.asked) == 1


async def test_cancel_reaches_the_upstream_server_and_the_stream_says_so(tmp_path: Path) -> None:
    script, _ = gated(EVENTS, 4)
    text = """
const { id } = await client.responses.create({ model: "m", input: "Hi", background: true });
try {
  for await (const one of await client.responses.retrieve(id, { stream: true })) {
    say(one);
    if (one.sequence_number === 3) say((await client.responses.cancel(id)).status);
  }
} catch (error) {
  say(error.message);
}
say((await client.responses.retrieve(id)).status);
"""
    async with relaying(script, keeping=KEPT, keep=True) as server:
        said = read(await printed(tmp_path, program(server.base, text)))
        await until(lambda: server.upstream.asked[0].closed.is_set())
        assert said[:5] == [*response_events(*TEXTS)[:4], "cancelled"]
        assert "by its caller" in json.dumps(said[5:-1])
        assert said[-1] == "cancelled"
        assert (server.relay.counters.cancelled, server.relay.counters.failed) == (1, 0)


async def _broken_off(asked: Asked) -> None:
    await asked.head()
    for one in EVENTS[:5]:
        await asked.raw(one)
    asked.writer.transport.abort()


async def _silent(asked: Asked) -> None:
    await asked.head()
    for one in EVENTS[:5]:
        await asked.raw(one)
    await asyncio.Event().wait()


@pytest.mark.parametrize("script", [_broken_off, _silent])
async def test_a_break_of_the_upstream_server_is_an_error_and_never_a_silent_end(
    tmp_path: Path, script: Script
) -> None:
    text = """
try {
  for await (const one of await client.responses.create({ model: "m", input: "Hi", stream: true })) say(one);
  say("whole");
} catch (error) {
  say(error.message);
}
"""
    async with relaying(script, keeping=KEPT, silent_seconds=1.0) as server:
        said = read(await printed(tmp_path, program(server.base, text)))
    assert said[:5] == response_events(*TEXTS)[:5]
    failed = [one["type"] if isinstance(one, dict) else one for one in said[5:]]
    assert failed[0] not in ("response.completed", "whole")
    assert failed[:1] == ["error"] or "upstream" in failed[0]


async def test_what_came_is_read_on_behind_a_kill_of_the_server(tmp_path: Path) -> None:
    """The answer was whole, and the client had a part of it."""
    async with completing(paced(EVENTS, 0.0)) as upstream:
        path = tmp_path / "headwater.toml"
        with kept_port() as port:
            path.write_text(
                f'[server]\nport = {port}\ndata = "{tmp_path}/data"\n[library]\npath = "{tmp_path}"\n'
                f'[[events]]\nname = "answers"\nrelay = "{upstream.url}"\npublish_token = "{TOKEN}"\n'
                'history = "1h"\n'
            )
            path.chmod(0o600)
            base = f"http://127.0.0.1:{port}/relay/answers/v1"
            server = await asyncio.to_thread(start_server, "--config", str(path))
            try:
                begin = """
const stream = await client.responses.create({ model: "m", input: "Hi", stream: true });
for await (const one of stream) say(one);
"""
                seen = read(await printed(tmp_path, program(base, begin)))[:10]
                newest = TEXTS[-1].strip()
                await until(lambda: _is_on_disk(tmp_path / "data", newest))
            finally:
                server.process.kill()
                await asyncio.to_thread(server.process.wait)
            server = await asyncio.to_thread(start_server, "--config", str(path))
            try:
                again = """
const rest = await client.responses.retrieve("resp_7f3a", { stream: true, starting_after: 9 });
for await (const one of rest) say(one);
"""
                seen += read(await printed(tmp_path, program(base, again)))
            finally:
                await asyncio.to_thread(server.stop)
    assert seen == response_events(*TEXTS)
    assert len(upstream.asked) == 1


def _is_on_disk(folder: Path, text: str) -> bool:
    return any(text.encode() in one.read_bytes() for one in folder.rglob("*") if one.is_file())
