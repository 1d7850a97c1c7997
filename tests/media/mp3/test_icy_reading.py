import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.mp3.icy import Deinterleaver, Interleaver, metadata_block, parse_title

TITLES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=30)


@settings(deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=50), TITLES), max_size=12), st.integers(1, 40))
def test_what_is_interleaved_comes_apart_again_however_it_is_cut(
    parts: list[tuple[bytes, str]], size: int
) -> None:
    interleaver = Interleaver(16)
    stream = b"".join(
        bytes(piece) for data, title in parts for piece in interleaver.feed(data, metadata_block(title))
    )
    reader = Deinterleaver(16)
    found = [
        audio
        for start in range(0, len(stream), size)
        for audio, _ in reader.receive_data(stream[start : start + size])
    ]
    assert b"".join(found) == b"".join(data for data, _ in parts)


def test_a_title_begins_behind_its_block() -> None:
    block = b"\x02" + b"StreamTitle='One & Two';".ljust(32, b"\0")
    pieces = Deinterleaver(4).receive_data(b"abcd" + block + b"efgh\0ij")
    assert pieces == [(b"abcd", ""), (b"efgh", "One & Two"), (b"ij", "One & Two")]


def test_without_metaint_all_is_audio() -> None:
    assert Deinterleaver(0).receive_data(b"\xff\xfbStreamTitle='x';") == [(b"\xff\xfbStreamTitle='x';", "")]


# As Icecast, SHOUTcast and old encoders write them.
@pytest.mark.parametrize(
    ("block", "title"),
    [
        (b"StreamTitle='One';", "One"),
        (b"StreamTitle='One';StreamUrl='http://x/';\0\0", "One"),
        (b"StreamTitle='Don't Stop';StreamUrl='';", "Don't Stop"),
        (b"StreamTitle='';", ""),
        ("StreamTitle='Żółć';".encode(), "Żółć"),
        (b"StreamTitle='caf\xe9';", "café"),
        (b"StreamTitle='cut", "cut"),
        (b"StreamUrl='http://x/';", "before"),
        (b"\0\0", "before"),
    ],
)
def test_titles_are_read_as_servers_write_them(block: bytes, title: str) -> None:
    assert parse_title(block, "before") == title
