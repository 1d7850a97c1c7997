"""origin.live.prepared: what is kept of playlists has bounds, however long they are."""

from __future__ import annotations

from origin.live import prepared


def test_playlists_of_megabytes_are_kept_within_a_bound_of_bytes() -> None:
    made: list[int] = []

    def make(data: bytes) -> int:
        made.append(data[0])
        return data[0]

    kept = prepared._Kept(make)
    texts = [bytes([number]) * (1 << 20) for number in range(40)]
    assert [kept(text) for text in texts] == list(range(40))
    held = [text for text in texts if text in kept._made]
    assert held == texts[40 - (prepared.KEPT_BYTES >> 20) :]
    made.clear()
    assert kept(texts[39]) == 39
    assert not made


def test_one_text_beyond_the_bound_is_kept_for_all_who_ask_for_it() -> None:
    made: list[int] = []
    kept = prepared._Kept(lambda data: made.append(len(data)))
    text = bytes(prepared.KEPT_BYTES + 1)
    kept(text)
    kept(text)
    assert made == [len(text)]
