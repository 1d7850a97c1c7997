"""Vercel's AI SDK, unchanged, in Node.js: it streams from a relay, and reads on what it has lost sight of."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.clients.node_programs import node
from tests.completion_server import tokens
from tests.event_server import LIMIT, TOKEN
from tests.keys import ADMIN_TOKEN
from tests.relay_server import relaying
from tests.streamed_answers import KEPT, gated
from tests.waiting import until

TEXTS = [f"word-{number} " for number in range(40)]
EVENTS = [f"data: {one}\n\n".encode() for one in tokens(*TEXTS)]
PROVIDER = """import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { DefaultChatTransport, readUIMessageStream, streamText } from "ai";
const [base, key] = [%s, %s];
const headers = { authorization: `Bearer ${key}` };
const provider = (more) => createOpenAICompatible({ name: "relay", baseURL: base, apiKey: key, ...more });
const say = (said) => process.stdout.write(`${JSON.stringify(said)}\\n`);
const messages = [{ role: "user", content: "Hello?" }];
const onError = ({ error }) => say(`${error}`);
const asked = (more) => streamText({ model: provider(more)("tiny"), messages, maxRetries: 0, onError });
"""


def program(base: str, text: str) -> str:
    return PROVIDER % (json.dumps(base), json.dumps(TOKEN)) + text


async def next_line(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT):
        return json.loads(await process.stdout.readline())


async def said_by(process: asyncio.subprocess.Process) -> list[Any]:
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return [json.loads(line) for line in output.decode().splitlines()]


async def test_stream_text_reads_an_answer_on_from_its_address_behind_a_break(tmp_path: Path) -> None:
    # The role's chunk is the first of the answer, and has no text.
    script, go_on = gated(EVENTS, 8)
    text = """
let place = "";
const noting = { fetch: async (...request) => {
  const response = await fetch(...request);
  place = response.headers.get("location").split("/").at(-1);
  return response;
} };
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
        async with node(tmp_path, program(server.base, text)) as process:
            seen = [await next_line(process) for _ in range(8)]
            assert seen.pop() == "reading on"
            go_on.set()
            *more, reason = await said_by(process)
        assert [*seen, *more] == TEXTS
        assert reason == "stop"
        assert len(server.upstream.asked) == 1


async def test_an_abort_of_the_answer_reaches_the_upstream_server_by_cancel(tmp_path: Path) -> None:
    script, _ = gated(EVENTS, 4)
    text = """
let place = "";
const noting = { fetch: async (...request) => {
  const response = await fetch(...request);
  place = response.headers.get("location").split("/").at(-1);
  return response;
} };
let pieces = 0;
for await (const piece of asked(noting).textStream) {
  say(piece);
  if ((pieces += 1) !== 3) continue;
  await fetch(`${base}/chat/completions/${place}/cancel`, { method: "POST", headers });
}
"""
    async with relaying(script, keeping=KEPT, keep=True) as server:
        async with node(tmp_path, program(server.base, text)) as process:
            said = await said_by(process)
        await until(lambda: server.upstream.asked[0].closed.is_set())
        assert said[:3] == TEXTS[:3]
        assert "cancelled" in json.dumps(said[3:])


async def test_a_chat_resumes_the_message_that_its_backend_publishes_to_a_channel(tmp_path: Path) -> None:
    """The chunks of a UI message stream are events of a channel that the backend has made."""
    parts = [{"type": "text-delta", "id": "0", "delta": text} for text in TEXTS]
    begin = [{"type": "start", "messageId": "m"}, {"type": "text-start", "id": "0"}]
    chunks = [*begin, *parts, {"type": "text-end", "id": "0"}, {"type": "finish"}]
    text = """
const prepareReconnectToStreamRequest = ({ id }) => ({ api: `${base}/${id}`, headers });
const transport = new DefaultChatTransport({ prepareReconnectToStreamRequest });
const stream = await transport.reconnectToStream({ chatId: "CHANNEL" });
let shown = "";
for await (const message of readUIMessageStream({ stream, onError: (error) => say(`${error}`) })) {
  const text = message.parts.map((part) => part.text ?? "").join("");
  if (text !== shown) say(text.slice(shown.length));
  shown = text;
}
say(null);
"""
    script, _ = gated(EVENTS, 0)
    async with relaying(script, keeping=KEPT) as server:
        admin = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        made = (await server.request("POST", "/events", headers=admin, json={})).json()
        base = f"http://127.0.0.1:{server.port}/events"
        own = {"authorization": f"Bearer {made['publish_token']}", "content-type": "application/x-ndjson"}

        async def publish(some: list[dict[str, Any]], *others: dict[str, str]) -> None:
            events = [*({"data": json.dumps(one)} for one in some), *others]
            lines = "".join(json.dumps(one) + "\n" for one in events)
            answer = await server.request("POST", made["url"], headers=own, content=lines)
            assert answer.status_code == 200, answer.text

        # What the chat reads ends with its connection, which an `end` closes; the SDK knows "[DONE]".
        await publish(chunks[:9])
        reading = text.replace("CHANNEL", made["name"])
        setup = PROVIDER % (json.dumps(base), json.dumps(made["read_token"]))
        async with node(tmp_path, setup + reading) as process:
            seen = ""
            while not seen.endswith(TEXTS[6]):
                seen += await next_line(process)
            await publish(chunks[9:], {"event": "end", "data": "[DONE]"})
            while (piece := await next_line(process)) is not None:
                seen += piece
        assert seen == "".join(TEXTS)
