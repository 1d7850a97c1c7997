"""Ogg from a source to its listeners and its encoder: blocks, a chain for these, one stream for that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from media.errors import MalformedError
from media.ogg.page import NO_POSITION, Page, PageReader
from packager.radio.audio_blocks import AudioBlock, OggAudio
from packager.radio.ogg_block_reader import BLOCK_BYTES, OggBlockReader
from packager.radio.ogg_chain import ChainedBlock, OggChain, OggJoiner
from tests.ogg import ENCODERS, SECONDS, encoded, judged, packets


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {codec: encoded(codec, f"Öne {codec}") for codec in ENCODERS}


def blocks(data: bytes) -> list[AudioBlock]:
    reader = OggBlockReader()
    return [*reader.receive_data(data), *reader.finish()]


def carried(*some: AudioBlock) -> list[ChainedBlock]:
    chain = OggChain()
    return [chain.carry(block) for block in some]


def joined(pieces: list[ChainedBlock]) -> bytes:
    return b"".join(piece.data for piece in pieces)


def entered(pieces: list[ChainedBlock], cut: int = 0) -> bytes:
    """What one gets who begins in the first of these."""
    first, *rest = pieces
    return first.lead + first.data[first.cuts[cut] :] + joined(rest)


@pytest.mark.parametrize("codec", ENCODERS)
def test_blocks_of_about_a_second_have_the_title_and_all_packets(codec: str, files: dict[str, bytes]) -> None:
    found = blocks(files[codec])
    assert sum(block.seconds for block in found) == SECONDS
    assert all(block.seconds < 2.1 for block in found)
    assert {block.title for block in found} == {f"Maker - Öne {codec}"}
    assert {block.sort for block in found} == {f"application/ogg; codecs={codec}"}
    out = joined(carried(*found))
    assert packets(out) == packets(files[codec])
    report = judged(out)
    assert (report.types, report.titles, report.warnings) == ([codec], [f"Öne {codec}"], [])


def test_blocks_are_bounded_whatever_the_pages_are() -> None:
    noise = encoded("flac", "Loud", source="anoisesrc=color=white")
    found = blocks(noise)
    pages = [block.ogg.pages for block in found if block.ogg]
    assert all(sum(page.size for page in some) <= BLOCK_BYTES for some in pages)
    assert packets(joined(carried(*found))) == packets(noise)


@pytest.mark.parametrize("codec", ENCODERS)
def test_who_begins_anywhere_gets_a_stream_of_its_own(codec: str, files: dict[str, bytes]) -> None:
    pieces = carried(*blocks(files[codec]))
    everything = packets(files[codec])
    for number in range(len(pieces)):
        for cut in range(len(pieces[number].cuts)):
            got = entered(pieces[number:], cut)
            heard = packets(got)
            assert heard == everything[len(everything) - len(heard) :]
            # It knows that there were pages before, as Icecast's listeners do, and that is all.
            report = judged(got)
            assert report.types == [codec]
            assert [one for one in report.warnings if "gap" not in one and "discontinuity" not in one] == []


def test_sources_that_come_and_go_make_one_valid_chain(files: dict[str, bytes]) -> None:
    one, other = blocks(files["vorbis"]), blocks(encoded("vorbis", "Other"))
    # The first stops in its middle, goes on behind the other, and comes again from its beginning.
    again = blocks(files["vorbis"])
    order = [*one[:2], *other[:1], *one[2:], *other[1:2], *again]
    pieces = carried(*order)
    report = judged(joined(pieces))
    assert report.titles == ["Öne vorbis", "Other", "Öne vorbis", "Other", "Öne vorbis"]
    assert len(set(report.serials)) == 5
    assert report.warnings == []
    assert {piece.link for piece in pieces} == {1, 2, 3, 4, 5}


def test_another_title_beside_the_stream_begins_a_link(files: dict[str, bytes]) -> None:
    for codec, data in files.items():
        reader, half = OggBlockReader(), len(data) * 2 // 3
        found = [*reader.receive_data(data[:half]), *reader.retitle("Später \U0001f399")]
        found += [*reader.receive_data(data[half:]), *reader.finish()]
        report = judged(joined(carried(*found)))
        assert (report.types, report.warnings) == ([codec, codec], [])
        assert report.titles == [f"Öne {codec}", "Später \U0001f399"]
        assert [block.title for block in found][-1] == "Später \U0001f399"
        assert sum(block.seconds for block in found) == SECONDS


def test_a_stream_without_a_title_keeps_what_was_told_beside_it(files: dict[str, bytes]) -> None:
    silent = encoded("vorbis", "", "-metadata", "artist=")
    reader = OggBlockReader()
    found = [
        *reader.receive_data(silent),
        *reader.retitle("Told"),
        *reader.receive_data(silent),
        *reader.finish(),
    ]
    assert [block.title for block in found if block.title] == ["Told"] * (len(found) // 2)
    assert judged(joined(carried(*found))).titles == ["Told"]
    found = read_all(titled_reader("Told"), files["vorbis"])
    assert {block.title for block in found} == {"Maker - Öne vorbis"}


def titled_reader(title: str) -> OggBlockReader:
    reader = OggBlockReader()
    reader.retitle(title)
    return reader


def read_all(reader: OggBlockReader, data: bytes) -> list[AudioBlock]:
    return [*reader.receive_data(data), *reader.finish()]


# Pages of which each goes on with a packet, as muxers of large frames write them.
def test_where_no_page_begins_with_a_packet_one_may_begin_all_the_same() -> None:
    # 640 bytes in each packet: so each has whole segments.
    data = encoded("opus", "Large", "-b:a", "256k", "-vbr", "off")
    found = [block for block in blocks(straddling(data)) if block.ogg]
    assert not any(page.is_fresh for block in found[1:] for page in (block.ogg.pages if block.ogg else ()))
    pieces = carried(*found)
    everything = packets(data)
    assert packets(joined(pieces)) == everything
    for number in range(1, len(pieces)):
        got = entered(pieces[number:])
        heard = packets(got)
        assert heard
        assert heard == everything[len(everything) - len(heard) :]


def straddling(data: bytes) -> bytes:
    """Let each page end within a packet, as if that were longer than a page."""
    reader = PageReader()
    reader.receive_data(data)
    first, tags, *rest = reader.pages()
    whole = [piece for page in rest for piece, _ in page.pieces()]
    out, carry = [first, tags], b""
    for number in range(0, len(whole), 10):
        some = [carry, *whole[number : number + 10]] if carry else whole[number : number + 10]
        last = number + 10 >= len(whole)
        lacing = b"".join(b"\xff" * (len(one) // 255) + bytes([len(one) % 255]) for one in some)
        body, carry = b"".join(some), b""
        if not last:
            # Of its last packet only whole segments of 255 bytes stay.
            stay = len(some[-1]) // 255 * 255
            carry = some[-1][stay:]
            lacing, body = lacing[:-1], body[: len(body) - len(carry)]
        granule = rest[-1].granule if last else 960 * (number + 9)
        flags = (1 if number else 0) | (4 if last else 0)
        out.append(Page(flags, granule, first.serial, 2 + number // 10, lacing, body))
    return b"".join(page.serialize() for page in out)


@pytest.mark.parametrize("codec", ENCODERS)
def test_the_encoder_gets_one_stream_of_all_links(codec: str, files: dict[str, bytes]) -> None:
    splice = OggJoiner()
    found = [block for title in ("One", "Two") for block in blocks(encoded(codec, title))]
    assert len({block.ogg.link.decoder for block in found if block.ogg}) == 1
    parts = [splice.write(block.ogg, block.duration) for block in found if block.ogg]
    report = judged(b"".join(parts))
    assert report.types == [codec]
    assert report.warnings in ([], ["EOS not set on stream 1"])
    assert packets(b"".join(parts)) == 2 * packets(encoded(codec, "One"))
    reader = PageReader()
    reader.receive_data(b"".join(parts))
    ends = [page.granule for page in reader.pages() if page.granule != NO_POSITION]
    assert ends == sorted(ends)
    assert ends[-1] == 2 * SECONDS * ENCODERS[codec][1]


def test_what_a_source_doesnt_bring_whole_is_no_audio(files: dict[str, bytes]) -> None:
    reader = OggBlockReader()
    assert reader.receive_data(files["vorbis"][:3000]) == []
    with pytest.raises(MalformedError):
        read_all(OggBlockReader(), b"")
    assert reader.frames == 0


def test_frames_that_arent_ogg_go_through_as_they_are() -> None:
    block = AudioBlock(b"abcd", 1, 1, "", (0, 2))
    assert carried(block) == [ChainedBlock(b"abcd", (0, 2), b"", 0)]


def test_the_bitrate_is_the_encoders_or_else_that_of_what_came(files: dict[str, bytes]) -> None:
    # ffprobe says 112000 of libvorbis's default quality at 44.1 kHz, and nothing of Opus.
    for codec, expected in (("vorbis", 112), ("opus", 8 * len(files["opus"]) / SECONDS / 1000)):
        reader = OggBlockReader()
        reader.receive_data(files[codec])
        assert reader.bitrate == pytest.approx(expected, rel=0.1)


def test_a_gap_in_the_pages_stays_one(files: dict[str, bytes]) -> None:
    found = blocks(files["vorbis"])
    lost = [replace(block, ogg=OggAudio(block.ogg.link, block.ogg.pages)) for block in found if block.ogg]
    report = judged(joined(carried(lost[0], *lost[2:])))
    assert [warning for warning in report.warnings if "gap" in warning]
