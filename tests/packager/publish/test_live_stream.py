"""packager.publish.live_stream: what is served of a live channel."""

from __future__ import annotations

from packager.publish.live_stream import ViewerCounter


def test_viewers_are_counted_while_they_ask_and_within_a_bound() -> None:
    viewers = ViewerCounter(6, max_viewers=3)
    for now, client in enumerate("aabc"):
        viewers.note(client, now)
    assert viewers.count(3) == 3
    assert viewers.count(8) == 2
    for client in "defg":
        viewers.note(client, 8)
    assert viewers.count(8) == 3
    assert viewers.count(15) == 0
