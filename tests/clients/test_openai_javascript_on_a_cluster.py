"""The ``openai`` package for JavaScript, unchanged, against two nodes of a cluster: from one to the other."""

from __future__ import annotations

import json
from pathlib import Path

from tests.clients.node_programs import node, printed
from tests.clients.openai_javascript import DOCUMENTED, next_line, program, read
from tests.cut_connections import cutting
from tests.event_server import TOKEN
from tests.origin.cluster.relayed_answers import EVENTS, TEXTS, base_of, relaying_nodes
from tests.redis_server import RedisServer
from tests.streamed_answers import CHAT_CHUNKS, CHAT_EVENTS, gated, paced, response_events
from tests.waiting import until

READ_ON = """
const rest = await client.responses.retrieve("resp_7f3a", { stream: true, starting_after: %d });
try {
  for await (const one of rest) say(one);
} catch (error) {
  say(error.message);
}
"""


async def test_the_documented_program_goes_from_node_to_node_and_loses_and_doubles_nothing(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    async with relaying_nodes(tmp_path, redis_server, paced(EVENTS, 0.03)) as cluster:
        ports = [int(one.url.rpartition(":")[2]) for one in cluster.nodes]
        sizes = [3000, 900, 2500, 1500]
        async with cutting(ports, sizes) as cut:
            text = DOCUMENTED.replace("127.0.0.1:8000/relay/answers", f"127.0.0.1:{cut}/relay/assistant")
            text = text.replace("PUBLISH_TOKEN", json.dumps(TOKEN)) + "process.stdout.write(text);\n"
            said = await printed(tmp_path, text)
        assert (said, sizes) == ("".join(TEXTS), [])
        assert len(cluster.upstream.asked) == 1


async def test_a_client_that_was_killed_goes_on_at_the_other_node(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    script, go_on = gated(EVENTS, 7)
    question = '{ model: "m", input: "Hi", stream: true }'
    begin = f"for await (const one of await client.responses.create({question})) say(one);\n"
    async with relaying_nodes(tmp_path, redis_server, script) as cluster:
        one, other = map(base_of, cluster.nodes)
        async with node(tmp_path, program(one, begin)) as first:
            seen = [await next_line(first) for _ in range(7)]
        async with node(tmp_path, program(other, READ_ON % seen[4]["sequence_number"])) as second:
            assert [await next_line(second) for _ in range(2)] == seen[5:]
            # The answer goes on while its reader is at the other node.
            go_on.set()
            assert second.stdout is not None
            seen += read((await second.stdout.read()).decode())
        assert seen == response_events(*TEXTS)
        assert len(cluster.upstream.asked) == 1


async def test_a_chat_completion_is_read_on_at_the_other_node_by_the_number_of_its_chunk(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    script, go_on = gated(CHAT_EVENTS, 3)
    text = """
const question = { model: "tiny", messages: [{ role: "user", content: "Hello?" }], stream: true };
const { data, response } = await client.chat.completions.create(question).withResponse();
let number = -1;
for await (const chunk of data) {
  say(chunk);
  if ((number += 1) === 2) break;
}
const other = new OpenAI({ baseURL: %s, apiKey: %s, maxRetries: 0 });
const place = response.headers.get("location").split("/").at(-1);
const query = { stream: true, starting_after: number };
for await (const chunk of await other.get(`/chat/completions/${place}`, { query, stream: true })) say(chunk);
"""
    async with relaying_nodes(tmp_path, redis_server, script) as cluster:
        one, other = map(base_of, cluster.nodes)
        async with node(tmp_path, program(one, text % (json.dumps(other), json.dumps(TOKEN)))) as process:
            seen = [await next_line(process) for _ in range(3)]
            go_on.set()
            output, errors = await process.communicate()
            assert process.returncode == 0, errors.decode()
        assert [*seen, *read(output.decode())] == [json.loads(one) for one in CHAT_CHUNKS[:-1]]
        assert len(cluster.upstream.asked) == 1


async def test_a_client_whose_node_is_killed_reads_what_came_and_an_error_at_the_other_one(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    script, _ = gated(EVENTS, 7)
    text = """
try {
  for await (const one of await client.responses.create({ model: "m", input: "Hi", stream: true })) say(one);
  say("whole");
} catch (error) {
  say("broken");
}
"""
    async with relaying_nodes(tmp_path, redis_server, script) as cluster:
        one, other = map(base_of, cluster.nodes)
        async with node(tmp_path, program(one, text)) as first:
            seen = [await next_line(first) for _ in range(7)]
            # The other node has all seven before the first one is gone.
            async with node(tmp_path, program(other, READ_ON % 0)) as second:
                assert [await next_line(second) for _ in range(6)] == seen[1:]
                await cluster.kill(0)
                assert await next_line(first) == "broken"
        *said, error = read(await printed(tmp_path, program(other, READ_ON % 4)))
        assert seen == response_events(*TEXTS)[:7]
        assert said == seen[5:]
        assert "the server that relayed the answer has ended" in error
        await until(lambda: cluster.upstream.asked[0].closed.is_set())


async def test_cancel_at_the_other_node_reaches_the_upstream_server(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    script, _ = gated(EVENTS, 4)
    text = """
const other = new OpenAI({ baseURL: %s, apiKey: %s, maxRetries: 0 });
const { id } = await client.responses.create({ model: "m", input: "Hi", background: true });
say((await other.responses.cancel(id)).status);
say((await client.responses.retrieve(id)).status);
"""
    async with relaying_nodes(tmp_path, redis_server, script) as cluster:
        one, other = map(base_of, cluster.nodes)
        said = await printed(tmp_path, program(one, text % (json.dumps(other), json.dumps(TOKEN))))
        assert read(said) == ["cancelled", "cancelled"]
        await until(lambda: cluster.upstream.asked[0].closed.is_set())
