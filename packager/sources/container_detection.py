"""Detection of a stream's container by its first bytes, without I/O."""

from __future__ import annotations

HEAD_BYTES = 4096
"""How many bytes of a stream are examined."""

STRIDES = (188, 192, 204)
"""Bytes from one packet of MPEG-TS to the next: alone, with a time of arrival, or with parity."""

TYPES = {
    "video/mp2t": "mpegts",
    "video/x-flv": "flv",
    "audio/mpeg": "mp3",
    "audio/aac": "aac",
    "audio/aacp": "aac",
}
"""Containers by media type, for streams that don't begin with a frame."""

EBML = b"\x1aE\xdf\xa3"
"""How Matroska begins (RFC 9559 §4.4)."""

PLAYLIST = b"#EXTM3U"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def is_playlist(head: bytes) -> bool:
    """Return whether a stream is an HLS playlist (RFC 8216bis §4.4.1.1)."""
    return head.removeprefix(BYTE_ORDER_MARK).startswith(PLAYLIST)


def detect_container(head: bytes, media_type: str = "") -> str | None:
    """Detect a stream's container.

    Args:
        head: the first bytes, up to ``HEAD_BYTES``.
        media_type: the Content-Type of the response.

    Returns:
        ffmpeg's name of the container; None if it isn't one that can be pumped.
    """
    if head.startswith(b"FLV"):
        return "flv"
    # ISO/IEC 13818-1 §2.4.3.2: a packet each 188 bytes
    for stride in STRIDES:
        for start in range(min(stride, max(len(head) - 2 * stride, 0))):
            if head[start] == head[start + stride] == head[start + 2 * stride] == 0x47:
                return "mpegts"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:  # ISO/IEC 13818-7 §6.2: layer 0 is ADTS
        return "aac"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "mp3"
    if head[:4] in (b"OggS", b"fLaC", EBML) or head[4:8] == b"ftyp" or head.lstrip()[:1] == b"#":
        return None
    return TYPES.get(media_type.partition(";")[0].strip().lower())


def detect_published_container(head: bytes) -> str | None:
    """Detect the container of a publisher's stream.

    Args:
        head: the first bytes, up to ``HEAD_BYTES``.

    Returns:
        ffmpeg's name of the container; None if more bytes are needed, or it is none that can be published.
    """
    if head.startswith(EBML):
        return "matroska"
    # ISO/IEC 23000-19 §7.3.2: a segment may begin with these, and ISO/IEC 14496-12 §4.3 with the first.
    if head[4:8] in (b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"prft", b"emsg"):
        return "mp4"
    found = detect_container(head)
    return found if found in ("mpegts", "flv") else None
