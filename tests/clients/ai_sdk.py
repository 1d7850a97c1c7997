"""Programs for Vercel's AI SDK, unchanged, and what they print."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.completion_server import tokens
from tests.event_server import TOKEN

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


async def said_by(process: asyncio.subprocess.Process) -> list[Any]:
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return [json.loads(line) for line in output.decode().splitlines()]


NOTING = """
let place = "";
const noting = { fetch: async (...request) => {
  const response = await fetch(...request);
  place = response.headers.get("location").split("/").at(-1);
  return response;
} };
"""
"""Notes the address of an answer that is asked for."""

CHAT = """
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
"""Shows the message of a channel as it grows, and null at its end."""


def ui_chunks() -> list[dict[str, Any]]:
    """Return the chunks of a UI message stream."""
    parts = [{"type": "text-delta", "id": "0", "delta": text} for text in TEXTS]
    begin = [{"type": "start", "messageId": "m"}, {"type": "text-start", "id": "0"}]
    return [*begin, *parts, {"type": "text-end", "id": "0"}, {"type": "finish"}]


def ndjson_of(chunks: list[dict[str, Any]], *others: dict[str, str]) -> str:
    """Return the lines by which a backend publishes chunks, and other events behind them."""
    events = [*({"data": json.dumps(one)} for one in chunks), *others]
    return "".join(json.dumps(one) + "\n" for one in events)


def reading_chat(base: str, made: dict[str, str]) -> str:
    """Return a chat that reads a channel, which was made, below an address."""
    begin = PROVIDER % (json.dumps(base), json.dumps(made["read_token"]))
    return begin + CHAT.replace("CHANNEL", made["name"])
