from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from origin.fan_out.ring import LaggedError
from origin.radio.mounts.audio_ring import AudioCursor, AudioRing


def taken(ring: AudioRing, cursor: AudioCursor, limit: int = 1 << 20) -> bytes:
    return b"".join(data for data, _ in ring.read(cursor, limit))


def test_each_listener_gets_all_that_is_appended_after_it_joined() -> None:
    ring = AudioRing(100)
    first = ring.join()
    ring.append(b"abc")
    second = ring.join()
    ring.append(b"def")
    assert taken(ring, first) == b"abcdef"
    assert taken(ring, second) == b"def"
    assert taken(ring, second) == b""


def test_blocks_are_handed_out_without_being_copied() -> None:
    ring, data = AudioRing(100), bytes(10)
    cursors = [ring.join() for _ in range(3)]
    ring.append(data)
    assert all(ring.read(cursor, 100)[0][0] is data for cursor in cursors)


def test_a_burst_begins_at_the_first_cut_among_the_newest_bytes() -> None:
    ring = AudioRing(100)
    ring.append(b"aabbccdd", cuts=(0, 2, 4, 6))
    ring.append(b"eeff", cuts=(0, 2))
    assert taken(ring, ring.join(0)) == b""
    assert taken(ring, ring.join(1)) == b""
    assert taken(ring, ring.join(3)) == b"ff"
    assert taken(ring, ring.join(4)) == b"eeff"
    assert taken(ring, ring.join(5)) == b"eeff"
    assert taken(ring, ring.join(9)) == b"ccddeeff"
    assert taken(ring, ring.join(99)) == b"aabbccddeeff"


def test_a_listener_whose_block_was_evicted_is_told_and_the_others_arent() -> None:
    told: list[str] = []
    ring = AudioRing(10)
    slow = ring.join(on_lag=lambda: told.append("slow"))
    fast = ring.join(on_lag=lambda: told.append("fast"))
    ring.append(b"12345")
    assert taken(ring, fast) == b"12345"
    ring.append(b"67890")
    assert (told, ring.lag(slow)) == ([], 10)
    ring.append(b"x")
    assert told == ["slow"]
    with pytest.raises(LaggedError):
        ring.read(slow, 100)
    assert taken(ring, fast) == b"67890x"


def test_one_read_takes_no_more_than_its_limit_but_at_least_one_block() -> None:
    ring = AudioRing(100)
    cursor = ring.join()
    for data in (b"12345", b"678", b"90"):
        ring.append(data)
    assert [taken(ring, cursor, limit) for limit in (1, 4, 5)] == [b"12345", b"678", b"90"]


@pytest.mark.parametrize("data", [b"", bytes(11)])
def test_a_block_that_is_empty_or_larger_than_the_ring_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        AudioRing(10).append(data)


def test_a_cursor_knows_the_media_time_of_its_next_byte() -> None:
    ring, second = AudioRing(12), Fraction(1)
    ring.append(b"aabbccdd", cuts=(0, 2, 4, 6), duration=second)
    cursors = {burst: ring.join(burst) for burst in (0, 2, 5, 8, 99)}
    times = {burst: cursor.media_time for burst, cursor in cursors.items()}
    assert times == {0: 1, 2: Fraction(3, 4), 5: Fraction(1, 2), 8: 0, 99: 0}
    ring.append(b"ee", duration=second / 3)
    assert (ring.media_time, cursors[0].media_time) == (Fraction(4, 3), second)
    assert taken(ring, cursors[2], 1) == b"dd"
    assert cursors[2].media_time == 1
    assert taken(ring, cursors[2]) == b"ee"
    assert cursors[2].media_time == Fraction(4, 3)
    ring.append(b"fffff", duration=second)
    # Its block is gone, and still it is known what it missed.
    assert cursors[5].media_time == Fraction(1, 2)


def test_who_begins_gets_the_lead_and_who_goes_on_gets_what_stands_before_the_first_cut() -> None:
    ring = AudioRing(100)
    before = ring.join()
    ring.append(b"HHaabb", cuts=(2, 4), lead=b"hh", link=1)
    ring.append(b"ccdd", cuts=(0, 2), lead=b"hh", link=1)
    ring.append(b"EHHee", cuts=(3,), lead=b"HH", link=2)
    everything = b"aabbccddEHHee"
    # Nobody who begins is given what ends a link that it hasn't heard.
    assert taken(ring, before) == b"hh" + everything
    assert taken(ring, ring.join(99)) == b"hh" + everything
    assert taken(ring, ring.join(11)) == b"hhbbccddEHHee"
    assert taken(ring, ring.join(7)) == b"hhddEHHee"
    assert taken(ring, ring.join(5)) == b"HHee"
    late = ring.join(0)
    ring.append(b"ff", lead=b"HH", link=2)
    assert taken(ring, late) == b"HHff"
    assert taken(ring, before) == b"ff"


def test_one_that_lagged_gets_the_lead_of_another_link_and_not_of_its_own() -> None:
    ring = AudioRing(8)
    cursor = ring.join()
    ring.append(b"aa", lead=b"h", link=1)
    assert taken(ring, cursor) == b"haa"
    for _ in range(5):
        ring.append(b"bb", lead=b"h", link=1)
    with pytest.raises(LaggedError):
        ring.read(cursor, 100)
    again = ring.join(4, link=cursor.link)
    assert taken(ring, again) == b"bbbb"
    for _ in range(5):
        ring.append(b"cc", lead=b"H", link=2)
    assert taken(ring, ring.join(4, link=again.link)) == b"Hcccc"


def test_a_block_in_which_nobody_can_begin_is_entered_behind_its_end() -> None:
    ring = AudioRing(100)
    ring.append(b"aaaa", cuts=(4,), lead=b"hx", link=1)
    cursor = ring.join(100)
    assert ring.read(cursor, 100) == [(b"hx", b"")]
    ring.append(b"bb", lead=b"h", link=1)
    assert taken(ring, cursor) == b"bb"
    assert ring.lag(cursor) == 0


class Listener:
    """What a listener should have seen, kept beside its cursor."""

    def __init__(self, cursor: AudioCursor, position: int) -> None:
        self.cursor = cursor
        self.position = position
        self.lagged = False


class RingMachine(RuleBasedStateMachine):
    """A ring beside the plain string of all that was ever appended."""

    CAPACITY = 40
    listeners = Bundle("listeners")

    def __init__(self) -> None:
        super().__init__()
        self.ring = AudioRing(self.CAPACITY)
        self.all = b""
        self.starts: list[int] = []
        self.cuts: set[int] = set()
        self.present: list[Listener] = []
        self.forgotten = 0

    def oldest(self) -> int:
        """The ring keeps whole blocks, as many of the newest as fit (the definition, not the code)."""
        kept = [start for start in self.starts if start >= self.forgotten]
        fitting = [start for start in kept if len(self.all) - start <= self.CAPACITY]
        return fitting[0] if fitting else len(self.all)

    @rule(target=listeners, burst=st.integers(0, 60))
    def join(self, burst: int) -> Listener:
        wanted = max(len(self.all) - burst, self.oldest())
        position = min((cut for cut in self.cuts if cut >= wanted), default=len(self.all))
        listener = Listener(AudioCursor(0), position)

        def on_lag() -> None:
            listener.lagged = True

        listener.cursor = self.ring.join(burst, on_lag)
        self.present.append(listener)
        return listener

    @rule(data=st.binary(min_size=1, max_size=20), frame=st.integers(1, 7))
    def append(self, data: bytes, frame: int) -> None:
        cuts = tuple(range(0, len(data), frame))
        self.starts.append(len(self.all))
        self.cuts |= {len(self.all) + cut for cut in cuts}
        self.all += data
        self.ring.append(data, cuts=cuts)

    @rule(listener=listeners, limit=st.integers(1, 60))
    def read(self, listener: Listener, limit: int) -> None:
        if listener not in self.present:
            return
        if listener.lagged:
            with pytest.raises(LaggedError):
                self.ring.read(listener.cursor, limit)
            return
        data = taken(self.ring, listener.cursor, limit)
        assert self.all[listener.position :].startswith(data)
        assert data or listener.position == len(self.all)
        listener.position += len(data)

    @rule()
    def change_the_source(self) -> None:
        """Nothing of the one before is heard any more; who hasn't read it has lagged."""
        self.ring.clear()
        self.forgotten = len(self.all)
        for listener in self.present:
            listener.lagged = listener.lagged or listener.position < self.forgotten

    @rule(listener=consumes(listeners))
    def leave(self, listener: Listener) -> None:
        self.ring.leave(listener.cursor)
        self.present.remove(listener)

    @invariant()
    def the_ring_is_bounded(self) -> None:
        assert self.ring.size == len(self.all) - self.oldest() <= self.CAPACITY
        assert self.ring.end == len(self.all)
        assert self.ring.cursors == len(self.present)

    @invariant()
    def exactly_those_that_fell_out_have_lagged(self) -> None:
        for listener in self.present:
            assert listener.lagged == (listener.position < self.oldest())
            if not listener.lagged:
                assert self.ring.lag(listener.cursor) == len(self.all) - listener.position


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
