import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.mp3.icy import Interleaver, clean_title, metadata_block


def payload(block: bytes) -> bytes:
    assert len(block) == 1 + 16 * block[0]
    return block[1:].rstrip(b"\0")


def test_a_block_is_a_length_in_units_of_sixteen_and_the_padded_text() -> None:
    # StreamTitle='A - B';StreamUrl=''; has 33 bytes: three units of 16.
    assert metadata_block("A - B") == b"\x03StreamTitle='A - B';StreamUrl='';" + bytes(15)


def test_the_address_stands_behind_the_title() -> None:
    assert payload(metadata_block("T", "http://a/b")) == b"StreamTitle='T';StreamUrl='http://a/b';"


@pytest.mark.clause("CWE-93")
@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("a\r\nb\0c", "a b c"),
        ("x';StreamUrl='javascript:alert(1)", "x\u2019;StreamUrl=\u2019javascript:alert(1)"),
        ("Don't", "Don\u2019t"),
        ("abc\u202edef", "abcdef"),
        ("  much \t space  ", "much space"),
        ("a\u2028b", "a b"),
    ],
)
def test_what_could_harm_a_player_is_taken_out_of_titles(title: str, expected: str) -> None:
    assert clean_title(title) == expected
    assert payload(metadata_block(title)).decode() == f"StreamTitle='{expected}';StreamUrl='';"


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    assert payload(metadata_block("a\ud800b")) == b"StreamTitle='a?b';StreamUrl='';"


@pytest.mark.clause("CWE-93")
@pytest.mark.parametrize("char", ["a", "é", "€", "😀"])
def test_a_title_that_is_too_long_is_cut_at_a_characters_edge(char: str) -> None:
    block = metadata_block(char * 5000)
    assert len(block) <= 1 + 4080
    found = re.fullmatch("StreamTitle='(.*)';StreamUrl='';", payload(block).decode("utf-8"))
    assert found
    # Not one character more would have had room.
    room = 4080 - len("StreamTitle='';StreamUrl='';")
    assert len(found[1]) == room // len(char.encode())


def test_half_an_address_is_never_sent() -> None:
    assert payload(metadata_block("T", "http://a/" + "b" * 2000)) == b"StreamTitle='T';StreamUrl='';"
    assert (
        payload(metadata_block("T", "http://a/it's\r\n")) == b"StreamTitle='T';StreamUrl='http://a/it%27s';"
    )


@pytest.mark.clause("CWE-93")
@settings(max_examples=60, deadline=None)
@given(st.text(max_size=6000), st.text(max_size=1500))
def test_any_title_makes_a_block_with_two_fields(title: str, url: str) -> None:
    block = metadata_block(title, url)
    assert len(block) <= 1 + 4080
    text = payload(block).decode("utf-8")
    assert re.fullmatch("StreamTitle='[^'\r\n\0]*';StreamUrl='[^'\r\n\0]*';", text)


def split(stream: bytes, metaint: int) -> tuple[bytes, list[bytes]]:
    """Read a stream as a player does: metaint bytes, a length byte, the block; it may end anywhere."""
    audio, blocks, position = b"", [], 0
    while position < len(stream):
        audio += stream[position : position + metaint]
        position += metaint
        if position < len(stream):
            size = 16 * stream[position]
            blocks.append(stream[position + 1 : position + 1 + size])
            position += 1 + size
    return audio, blocks


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=50), st.sampled_from(["", "One", "Two"])), max_size=30),
    st.integers(1, 40),
)
def test_a_player_gets_all_audio_and_each_title_once(portions: list[tuple[bytes, str]], metaint: int) -> None:
    interleaver = Interleaver(metaint)
    blocks = [metadata_block(title) if title else b"" for _, title in portions]
    stream = b"".join(
        bytes(piece)
        for (audio, _), block in zip(portions, blocks, strict=True)
        for piece in interleaver.feed(audio, block)
    )
    audio, seen = split(stream, metaint)
    assert audio == b"".join(audio for audio, _ in portions)
    told = [block for block in seen if block]
    assert all(one != other for one, other in pairwise(told))


def test_the_whole_block_comes_first_and_then_only_when_it_changed() -> None:
    interleaver = Interleaver(4)
    one, two = metadata_block("One"), metadata_block("Two")
    assert interleaver.feed(b"abcdefgh", one) == [b"abcd", one, b"efgh", b"\0"]
    assert interleaver.feed(b"ijkl", two) == [b"ijkl", two]
    assert interleaver.feed(b"mn", two) == [b"mn"]
    assert interleaver.feed(b"opq", two) == [b"op", b"\0", b"q"]


def test_before_any_title_is_known_the_block_is_empty() -> None:
    interleaver = Interleaver(2)
    assert interleaver.feed(b"ab", b"") == [b"ab", b"\0"]
    assert interleaver.feed(b"cd", metadata_block("T")) == [b"cd", metadata_block("T")]
