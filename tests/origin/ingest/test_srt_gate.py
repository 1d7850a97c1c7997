"""Who is let in over SRT while somebody behind the same address guesses keys."""

from __future__ import annotations

from typing import Any, cast

import structlog

from origin.access.guess_delay import GuessDelay
from origin.ingest.admission import IngestAdmission
from origin.ingest.limits import IngestLimits
from origin.ingest.srt import SrtGate
from origin.ingest.srt_receiver import SrtReceiver
from packager.sources.published_source import PublishedSource
from tests.permissions import live_authorization

LONG, SHORT = "a-key-that-nobody-guesses", "short"
ADDRESS, OTHER = "192.0.2.7", "192.0.2.8"


class _Room:
    is_full = False


class Gate:
    """A gate before the channels ``long`` and ``short``, named for their keys, at a time of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        keys = live_authorization({"long": LONG, "short": SHORT})
        sources = {name: PublishedSource(name) for name in ("long", "short")}
        delay = GuessDelay(2, 5.0, clock=lambda: self.now)
        admission = IngestAdmission(sources, keys, delay)
        self._gate = SrtGate(admission, IngestLimits(), {}, lambda: self.now)
        self._gate.receiver = cast(SrtReceiver, cast(Any, _Room()))

    def code(self, stream_id: str, address: str = ADDRESS) -> int:
        """Give the code that a caller hears."""
        return self._gate.judge(address, stream_id.encode()).code

    def guess_until_waiting(self) -> None:
        """Guess until the address has to wait."""
        assert any(self.code(f"publish:long:{number}") == 1402 for number in range(10))


async def test_a_long_right_key_is_let_in_while_its_address_has_to_wait() -> None:
    gate = Gate()
    gate.guess_until_waiting()
    assert gate.code(f"publish:long:{LONG}") == 0


async def test_other_keys_are_not_heard_meanwhile() -> None:
    gate = Gate()
    gate.guess_until_waiting()
    assert gate.code(f"publish:long:{LONG.upper()}") == 1402
    assert gate.code(f"publish:long:{SHORT}") == 1402
    # A short key could be guessed: the answer to it says nothing.
    assert gate.code(f"publish:short:{SHORT}") == 1402
    assert gate.code(f"publish:short:{SHORT}", OTHER) == 0


async def test_guesses_that_are_not_heard_do_not_prolong_the_wait() -> None:
    patient, hasty = Gate(), Gate()
    waits = []
    for gate, guesses in ((patient, 0), (hasty, 100)):
        gate.guess_until_waiting()
        for number in range(guesses):
            assert gate.code(f"publish:short:{number}") == 1402
        while gate.code(f"publish:short:{SHORT}") != 0:
            gate.now += 0.05
        waits.append(gate.now)
    assert waits[0] == waits[1] <= 5.0


async def test_callers_without_a_channel_cant_fill_the_log() -> None:
    gate = Gate()
    with structlog.testing.capture_logs() as lines:
        for number in range(1000):
            assert gate.code("publish:nowhere:k", f"198.51.100.{number % 200}") == 1404
    refused = [line for line in lines if line["event"] == "srt connection refused"]
    assert 1 < len(refused) == len(lines) <= IngestLimits().refusal_log.lines
