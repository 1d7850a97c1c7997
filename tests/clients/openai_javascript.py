"""Programs for the ``openai`` package for JavaScript, unchanged, and what they print."""

from __future__ import annotations

import asyncio
import json
import re
import textwrap
from pathlib import Path
from typing import Any

from tests.event_server import LIMIT, TOKEN

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
(DOCUMENTED,) = (
    textwrap.dedent(one)
    for one in re.findall(r"\n\n((?:    .+\n)+)", PAGE)
    if one.lstrip().startswith("import OpenAI")
)
CLIENT = """import OpenAI from "openai";
const client = new OpenAI({ baseURL: %s, apiKey: %s, maxRetries: 0 });
const say = (said) => process.stdout.write(`${JSON.stringify(said)}\\n`);
"""


def program(base: str, text: str) -> str:
    return CLIENT % (json.dumps(base), json.dumps(TOKEN)) + text


def read(lines: str) -> list[Any]:
    return [json.loads(line) for line in lines.splitlines()]


async def next_line(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT):
        return json.loads(await process.stdout.readline())
