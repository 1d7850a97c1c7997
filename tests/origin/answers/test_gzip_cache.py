"""origin.answers.gzip_cache: gzip and tags of texts in pieces; what is kept of them has bounds."""

from __future__ import annotations

import asyncio
import gzip
import random
import subprocess
import zlib
from itertools import accumulate
from threading import Semaphore

from hypothesis import given, settings
from hypothesis import strategies as st

from media.hls.precompressed_text import SharedText
from origin.answers import gzip_cache
from packager.threads import ThreadLimits, Threads

THREADS, FAULTY = 32, b"faulty"
KEPT_BYTES = 16 << 20
TEXTS = st.lists(st.binary(max_size=200), max_size=5).map(tuple)


def repeated(count: int) -> bytes:
    """Lines like a playlist's, more than a window of deflate has."""
    return b"".join(b"#EXTINF:2.00000,\n%d.m4s\n" % number for number in range(count))


@settings(deadline=None)
@given(TEXTS)
def test_pieces_coded_apart_are_one_gzip_member_of_the_whole(pieces: tuple[bytes, ...]) -> None:
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
    assert decoder.decompress(gzip_cache.gzip(pieces)) == b"".join(pieces)
    # Browsers read the first member alone (RFC 1952 §2.2 allows several).
    assert decoder.eof
    assert not decoder.unused_data


def test_long_pieces_that_come_again_with_others_around_them_decode_as_by_gzip_itself() -> None:
    lasting = repeated(5000)
    for edge in (b"a\n", b"b\n", repeated(3000)):
        text = (edge, lasting, edge[::-1])
        done = subprocess.run(["gzip", "-dc"], input=gzip_cache.gzip(text), capture_output=True, check=True)
        assert done.stdout == b"".join(text)


def test_a_long_piece_is_compressed_once() -> None:
    lasting = repeated(5000)
    first = gzip_cache._deflated(lasting)
    assert gzip_cache._deflated(lasting) is first
    assert len(gzip_cache.gzip((b"x", lasting))) < len(lasting) / 5


async def test_threads_that_ask_at_once_wait_for_one_of_them() -> None:
    asked, made = Semaphore(0), list[bytes]()

    def make(text: bytes) -> bytes:
        if text == FAULTY:
            raise MemoryError
        for _ in range(THREADS):
            asked.acquire()
        made.append(text)
        return text[::-1]

    cache = gzip_cache.BoundedCache(make, len)

    def ask(text: bytes) -> bytes:
        asked.release()
        return cache(text)

    pool = Threads(ThreadLimits(threads=THREADS))
    found = await asyncio.gather(*(pool.run(ask, b"text") for _ in range(THREADS)))
    errors = await asyncio.gather(*(pool.run(ask, FAULTY) for _ in range(THREADS)), return_exceptions=True)
    assert made == [b"text"]
    assert all(one is found[0] for one in found)
    assert {type(error) for error in errors} == {MemoryError}
    assert (b"text" in cache, FAULTY in cache) == (True, False)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=4))
def test_the_checksum_of_texts_joined_follows_from_theirs(texts: list[bytes]) -> None:
    joined = 0
    for text, whole in zip(texts, accumulate(texts), strict=True):
        joined = gzip_cache.crc32_combine(joined, zlib.crc32(text), len(text))
        assert joined == zlib.crc32(whole)


def test_many_texts_of_one_size_among_others_are_joined_as_they_are() -> None:
    chosen = random.Random(1)
    sizes = (3000 if chosen.random() < 0.8 else chosen.randrange(1, 4000) for _ in range(300))
    texts = [SharedText.of(chosen.randbytes(size)) for size in sizes]
    assert gzip.decompress(gzip_cache.gzip(tuple(texts))) == b"".join(texts)


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_tags_tell_texts_and_codings_apart(one: tuple[bytes, ...], other: tuple[bytes, ...]) -> None:
    if b"".join(one) != b"".join(other):
        assert gzip_cache.tag(one) != gzip_cache.tag(other)
    assert gzip_cache.gzip_tag(one) not in (gzip_cache.tag(one), gzip_cache.tag(other))


def test_playlists_of_megabytes_are_kept_within_a_bound_of_bytes() -> None:
    made: list[int] = []

    def make(data: bytes) -> int:
        made.append(data[0])
        return data[0]

    kept = gzip_cache.BoundedCache[bytes, int](make, len)
    texts = [bytes([number]) * (1 << 20) for number in range(40)]
    assert [kept(text) for text in texts] == list(range(40))
    held = [text for text in texts if text in kept]
    assert held == texts[40 - (KEPT_BYTES >> 20) :]
    made.clear()
    assert kept(texts[39]) == 39
    assert not made


def test_one_text_beyond_the_bound_is_kept_for_all_who_ask_for_it() -> None:
    made: list[int] = []

    def make(data: bytes) -> None:
        made.append(len(data))

    kept = gzip_cache.BoundedCache[bytes, None](make, len)
    text = bytes(KEPT_BYTES + 1)
    kept(text)
    kept(text)
    assert made == [len(text)]
