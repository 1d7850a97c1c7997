"""How fast answers come: the time to the first token, gaps, and tokens a second, by model."""

from __future__ import annotations

import json

import pytest
from structlog.testing import capture_logs

from origin.token_relay.figures import MODELS, OTHER, AnswerTimes, RelayFigures, tokens_in
from tests.completion_server import chunk, streaming
from tests.relay_server import STREAMED, relaying
from tests.streamed_answers import CHAT_CHUNKS, KEPT, asking


@pytest.mark.parametrize(
    ("event", "tokens"),
    [
        # OpenAI's and Anthropic's references of streaming events; vLLM sends null before the last chunk.
        ({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}, 7),
        ({"choices": [], "usage": None}, None),
        ({"type": "response.completed", "response": {"usage": {"input_tokens": 5, "output_tokens": 9}}}, 9),
        ({"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}}, 1),
        ({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 15}}, 15),
        ({"choices": [{"delta": {"content": '"usage"'}}]}, None),
        ({"usage": {"completion_tokens": -1}}, None),
        ({"usage": "many"}, None),
    ],
)
def test_the_number_of_tokens_is_the_upstream_servers(event: object, tokens: int | None) -> None:
    assert tokens_in(json.dumps(event)) == tokens


def test_what_is_no_json_names_no_tokens() -> None:
    assert tokens_in('"usage" [DONE]') is None
    assert tokens_in('{"usage":' + "[" * 100_000) is None


def test_times_of_an_answer_are_observed_at_its_end() -> None:
    usage = json.dumps({"type": "response.completed", "response": {"usage": {"output_tokens": 5}}})
    clock = iter((100.0, 100.5, 100.6, 102.5, 103.0))
    every = RelayFigures()
    times = AnswerTimes(every, "responses", "tiny", lambda: next(clock))
    times.note_server("one.example")
    times.note_server("two.example:8080")
    for data in ("{}", "{}", usage):
        times.note_event(data)
    assert times.finish() == 3.0
    # The server that was asked in vain has none.
    assert list(every.by_model) == [("responses", "tiny", "two.example:8080")]
    figures = every.of("responses", "tiny", "two.example:8080")
    assert (figures.first_token.count, figures.first_token.sum) == (1, 0.5)
    assert (figures.gap.count, round(figures.gap.sum, 6)) == (2, 2.0)
    # Four tokens behind the first in two seconds.
    assert (figures.per_token.sum, figures.rate.sum) == (0.5, 2.0)
    assert (figures.tokens.sum, figures.chunks.count, figures.duration.sum) == (5, 0, 3.0)


def test_callers_make_no_more_series_than_there_may_be() -> None:
    figures = RelayFigures()
    for number in range(10 * MODELS):
        figures.of("chat/completions", f"model-{number}")
    assert len(figures.by_model) == MODELS + 1
    assert figures.of("chat/completions", "a\nb") is figures.by_model["chat/completions", OTHER, ""]


@pytest.mark.parametrize("with_usage", [True, False])
async def test_a_relays_answers_are_counted_by_tokens_or_else_by_chunks(with_usage: bool) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    more = [chunk({}, choices=[], usage=usage)] if with_usage else []
    chunks = [*CHAT_CHUNKS[:-1], *more, "[DONE]"]
    async with relaying(streaming(chunks), keeping=KEPT) as server:
        async with asking(server, "chat/completions", STREAMED) as answer:
            # The stream isn't changed by that.
            assert b"usage" in await answer.aread() or not with_usage
        ((*named, host), figures), *further = server.relay.counters.figures.by_model.items()
        assert (named, further) == (["chat/completions", "tiny"], [])
        assert host.startswith("127.0.0.1:")
        counted = (figures.tokens.sum, figures.chunks.sum)
        assert counted == ((7.0, 0.0) if with_usage else (0.0, float(len(chunks))))
        assert figures.first_token.count == figures.duration.count == 1


async def test_each_answer_has_a_line_in_the_log_without_a_word_of_its_callers() -> None:
    question = {**STREAMED, "model": "what is in a prompt\nmay be here, too"}
    async with relaying(streaming(CHAT_CHUNKS), keeping=KEPT) as server:
        with capture_logs() as lines:
            async with asking(server, "chat/completions", question) as answer:
                await answer.aread()
        (line,) = (one for one in lines if one["event"] == "an answer has ended")
        assert (line["relay"], line["api"], line["reason"]) == ("test", "chat/completions", "done")
        assert (line["model"], line["chunks"], line["tokens"]) == (OTHER, len(CHAT_CHUNKS), None)
        assert answer.headers["x-request-id"] not in str(lines)
        assert not [one for one in ("prompt", "Hello?", "Hel") if one in str(lines)]
