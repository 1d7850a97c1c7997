"""Publishing over SRT by JSON Web Tokens: what is wrong with one is logged, and its holder is no guesser."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.faulty_tokens import ACCESS, FAULTS, token
from tests.origin.ingest.srt_studio import SrtStudio, srt_studio
from tests.waiting import wait_for

LOGGED = (
    "the token has expired",
    "the token isn't valid yet",
    "the token is of another issuer (iss)",
    "the token isn't valid for this address",
)
"""Faults of tokens whose signature is right: as many as one address has lines of the log for in a minute."""


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[SrtStudio]:
    yield from srt_studio(tmp_path, others=ACCESS)


def is_logged(hall: SrtStudio, fault: str) -> bool:
    return fault in hall.studio.server.text()


def test_what_is_wrong_with_a_token_is_logged_and_nobody_with_a_right_one_waits(hall: SrtStudio) -> None:
    for fault in LOGGED:
        assert hall.refusal(f"publish:studio:{FAULTS[fault]}") == 1401
    for fault in LOGGED:
        wait_for(partial(is_logged, hall, fault), fault)
        assert FAULTS[fault] not in hall.studio.server.text()
    expired = FAULTS["the token has expired"]
    # A guesser would be refused with 1402 soon.
    assert {hall.refusal(f"studio?key={expired}") for _ in range(20)} == {1401}
    assert hall.refusal(f"#!::r=studio,m=publish,s={token()}") == 0
    hall.studio.wait_for_state("idle")


def test_a_token_that_another_has_signed_is_a_guess(hall: SrtStudio) -> None:
    fault = "the token isn't signed by a key that is known here"
    found = [hall.refusal(f"publish:studio:{FAULTS[fault]}") for _ in range(12)]
    assert found[0] == 1401
    assert 1402 in found
    wait_for(partial(is_logged, hall, fault), fault)
    # The right token is too long to be guessed.
    assert hall.refusal(f"publish:studio:{token()}") == 0
    hall.studio.wait_for_state("idle")
