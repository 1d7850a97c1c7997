"""Targets of Ogg: the sound of stations, and films."""

from __future__ import annotations

from media.ogg.page import checksum
from media.ogg.reader import OggReader
from tests import hostile_media as hostile
from tests.fuzzing.containers import encoded, portions
from tests.fuzzing.formats import of_events, of_whole, read_film
from tests.fuzzing.fuzzer import Target
from tests.fuzzing.mutation import Parts


def whole_page(part: bytes) -> bytes:
    """Give a page its checksum (RFC 3533 §6)."""
    if len(part) < 27:
        return part
    without = part[:22] + bytes(4) + part[26:]
    return part[:22] + checksum(without).to_bytes(4, "little") + part[26:]


def oggs() -> list[Parts]:
    """Give streams of Opus and Vorbis."""
    opus, vorbis = (encoded(f"-vn -c:a {codec}", "ogg") for codec in ("libopus -b:a 8k", "flac"))
    made = [[b"OggS" + page for page in data.split(b"OggS")[1:]] for data in (opus, vorbis)]
    return [*made, portions(hostile.tiny_links(300), 28), portions(hostile.many_comments(300), 28)]


def ogg_films() -> list[Parts]:
    """Give films in Ogg, of whose pages some hold the middle of a packet alone."""
    coded = ("-c:v libtheora -g 2 -c:a libvorbis -ar 8000", "-c:v libvpx -g 2 -c:a flac", "-vn -c:a libopus")
    return [[b"OggS" + page for page in encoded(one, "ogg").split(b"OggS")[1:]] for one in coded]


TARGETS: dict[str, Target] = {
    "ogg": Target(seeds=oggs, read=of_events(OggReader), mend=whole_page),
    "ogg films": Target(seeds=ogg_films, read=of_whole(read_film), mend=whole_page),
}
