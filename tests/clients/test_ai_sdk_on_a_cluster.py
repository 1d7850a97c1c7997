"""Vercel's AI SDK, unchanged, against two nodes of a cluster: from one to the other."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from tests.clients.ai_sdk import EVENTS, NOTING, TEXTS, ndjson_of, program, reading_chat, said_by, ui_chunks
from tests.clients.node_programs import node
from tests.clients.openai_javascript import next_line
from tests.event_server import LIMIT
from tests.keys import ADMIN_TOKEN
from tests.origin.cluster.relayed_answers import base_of, relaying_nodes
from tests.redis_server import RedisServer
from tests.streamed_answers import gated
from tests.waiting import until


async def test_stream_text_reads_an_answer_on_at_the_other_node(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    script, go_on = gated(EVENTS, 8)
    text = """
const first = [];
for await (const piece of asked(noting).textStream) {
  say(piece);
  if (first.push(piece) === 7) break;
}
const rest = `${%s}/chat/completions/${place}?stream=true&starting_after=${first.length}`;
const result = asked({ fetch: () => fetch(rest, { headers }) });
say("reading on");
for await (const piece of result.textStream) say(piece);
say(await result.finishReason);
"""
    async with relaying_nodes(tmp_path, redis_server, script) as cluster:
        one, other = map(base_of, cluster.nodes)
        async with node(tmp_path, program(one, NOTING + text % json.dumps(other))) as process:
            seen = [await next_line(process) for _ in range(8)]
            assert seen.pop() == "reading on"
            go_on.set()
            *more, reason = await said_by(process)
        assert [*seen, *more] == TEXTS
        assert reason == "stop"
        assert len(cluster.upstream.asked) == 1


async def test_an_abort_at_the_other_node_reaches_the_upstream_server(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    script, _ = gated(EVENTS, 4)
    text = """
let pieces = 0;
for await (const piece of asked(noting).textStream) {
  say(piece);
  if ((pieces += 1) !== 3) continue;
  await fetch(`${%s}/chat/completions/${place}/cancel`, { method: "POST", headers });
}
"""
    async with relaying_nodes(tmp_path, redis_server, script) as cluster:
        one, other = map(base_of, cluster.nodes)
        async with node(tmp_path, program(one, NOTING + text % json.dumps(other))) as process:
            said = await said_by(process)
        await until(lambda: cluster.upstream.asked[0].closed.is_set())
        assert said[:3] == TEXTS[:3]
        assert "cancelled" in json.dumps(said[3:])


async def test_a_chat_resumes_its_message_at_the_other_node_when_its_own_is_killed(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    script, _ = gated(EVENTS, 0)
    async with (
        relaying_nodes(tmp_path, redis_server, script) as cluster,
        httpx.AsyncClient(timeout=LIMIT) as backend,
    ):
        read_at, published_at = (one.url for one in cluster.nodes)
        admin = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        made = (await backend.post(f"{published_at}/events", headers=admin, json={})).json()
        own = {"authorization": f"Bearer {made['publish_token']}", "content-type": "application/x-ndjson"}

        async def publish(lines: str) -> None:
            address = f"{published_at}/events/{made['name']}"
            answer = await backend.post(address, headers=own, content=lines)
            assert answer.status_code == 200, answer.text

        chunks = ui_chunks()
        await publish(ndjson_of(chunks[:9]))
        async with node(tmp_path, reading_chat(f"{read_at}/events", made)) as process:
            seen = ""
            while not seen.endswith(TEXTS[6]):
                seen += await next_line(process)
            assert seen == "".join(TEXTS[:7])
            await cluster.kill(0)
        await publish(ndjson_of(chunks[9:], {"event": "end", "data": "[DONE]"}))
        async with node(tmp_path, reading_chat(f"{published_at}/events", made)) as process:
            *shown, end = await said_by(process)
        assert ("".join(shown), end) == ("".join(TEXTS), None)
