"""Vercel's AI SDK, unchanged, in Node.js: it streams from a relay, and reads on what it has lost sight of."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.clients.ai_sdk import EVENTS, NOTING, TEXTS, ndjson_of, program, reading_chat, said_by, ui_chunks
from tests.clients.node_programs import node
from tests.clients.openai_javascript import next_line
from tests.event_server import TOKEN
from tests.keys import ADMIN_TOKEN
from tests.relay_server import relaying
from tests.streamed_answers import KEPT, gated
from tests.waiting import until


async def test_stream_text_reads_an_answer_on_from_its_address_behind_a_break(tmp_path: Path) -> None:
    # The role's chunk is the first of the answer, and has no text.
    script, go_on = gated(EVENTS, 8)
    text = """
const first = [];
for await (const piece of asked(noting).textStream) {
  say(piece);
  if (first.push(piece) === 7) break;
}
// Its number counts the chunks from 0, of which the first one had no text.
const rest = `${base}/chat/completions/${place}?stream=true&starting_after=${first.length}`;
const result = asked({ fetch: () => fetch(rest, { headers }) });
say("reading on");
for await (const piece of result.textStream) say(piece);
say(await result.finishReason);
"""
    async with relaying(script, keeping=KEPT) as server:
        async with node(tmp_path, program(server.base, NOTING + text)) as process:
            seen = [await next_line(process) for _ in range(8)]
            assert seen.pop() == "reading on"
            go_on.set()
            *more, reason = await said_by(process)
        assert [*seen, *more] == TEXTS
        assert reason == "stop"
        assert len(server.upstream.asked) == 1


async def test_the_documented_program_reads_the_rest_of_an_answer_that_it_left(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "ai-sdk-and-litellm.md").read_text("utf-8")
    (documented,) = re.findall(r"```javascript\n(.+?)```", page, re.DOTALL)
    script, go_on = gated(EVENTS, 20)
    go_on.set()
    async with relaying(script, keeping=KEPT, keep=True) as server:
        text = documented.replace("http://127.0.0.1:8000/relay/assistant/v1", server.base)
        async with node(tmp_path, text.replace("TOKEN", TOKEN)) as process:
            output, errors = await process.communicate()
        assert (process.returncode, output.decode(), errors.decode()) == (0, "".join(TEXTS), "")
        assert len(server.upstream.asked) == 1


async def test_an_abort_of_the_answer_reaches_the_upstream_server_by_cancel(tmp_path: Path) -> None:
    script, _ = gated(EVENTS, 4)
    text = """
let pieces = 0;
for await (const piece of asked(noting).textStream) {
  say(piece);
  if ((pieces += 1) !== 3) continue;
  await fetch(`${base}/chat/completions/${place}/cancel`, { method: "POST", headers });
}
"""
    async with relaying(script, keeping=KEPT, keep=True) as server:
        async with node(tmp_path, program(server.base, NOTING + text)) as process:
            said = await said_by(process)
        await until(lambda: server.upstream.asked[0].closed.is_set())
        assert said[:3] == TEXTS[:3]
        assert "cancelled" in json.dumps(said[3:])


async def test_a_chat_resumes_the_message_that_its_backend_publishes_to_a_channel(tmp_path: Path) -> None:
    """The chunks of a UI message stream are events of a channel that the backend has made."""
    script, _ = gated(EVENTS, 0)
    async with relaying(script, keeping=KEPT) as server:
        admin = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        made = (await server.request("POST", "/events", headers=admin, json={})).json()
        base = f"http://127.0.0.1:{server.port}/events"
        own = {"authorization": f"Bearer {made['publish_token']}", "content-type": "application/x-ndjson"}

        async def publish(lines: str) -> None:
            answer = await server.request("POST", made["url"], headers=own, content=lines)
            assert answer.status_code == 200, answer.text

        # What the chat reads ends with its connection, which an `end` closes; the SDK knows "[DONE]".
        chunks = ui_chunks()
        await publish(ndjson_of(chunks[:9]))
        async with node(tmp_path, reading_chat(base, made)) as process:
            seen = ""
            while not seen.endswith(TEXTS[6]):
                seen += await next_line(process)
            await publish(ndjson_of(chunks[9:], {"event": "end", "data": "[DONE]"}))
            while (piece := await next_line(process)) is not None:
                seen += piece
        assert seen == "".join(TEXTS)
