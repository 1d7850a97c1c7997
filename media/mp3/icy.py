"""Writes and reads ICY metadata: title blocks within the audio, as SHOUTcast introduced them.

After every ``metaint`` bytes of audio follows a block: one byte n, then 16·n bytes of
``StreamTitle='…';StreamUrl='…';``, padded with NUL. There is no standard; this follows Icecast, and what VLC,
mpv, ffmpeg and browser players read.
"""

from __future__ import annotations

from media.mp3.id3 import INVISIBLE

METAINT = 16000
"""Default bytes of audio between two blocks."""

BLOCK_BYTES = 255 * 16
"""Longest metadata: its length is one byte, in units of 16."""

URL_BYTES = 1024
"""Longest StreamUrl; a longer one is left out, as a truncated one would be useless."""

UNCHANGED = b"\0"
"""The block that repeats the previous metadata."""

_BIDI_CONTROLS = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_HARMLESS = {**dict.fromkeys(map(ord, _BIDI_CONTROLS)), ord("'"): "\u2019"}


def clean_title(title: str) -> str:
    """Make a title safe to show and to quote.

    Returns:
        One line without control characters or overrides of the writing direction, and with typographic
        apostrophes, since players end the title at ``';`` or even at the first ``'``.
    """
    return " ".join(INVISIBLE.sub(" ", title).translate(_HARMLESS).split())


def metadata_block(title: str, url: str = "") -> bytes:
    """Write a metadata block.

    Args:
        title: truncated if too long.
        url: left out if longer than ``URL_BYTES``.

    Returns:
        The length byte and the padded text: at most 1 + 4,080 bytes.
    """
    address = "".join(filter(str.isprintable, url)).replace(" ", "").replace("'", "%27").encode()
    tail = b"';StreamUrl='" + (address if len(address) <= URL_BYTES else b"") + b"';"
    head = b"StreamTitle='"
    room = BLOCK_BYTES - len(head) - len(tail)
    # A lone surrogate has no UTF-8; "replace" makes it a question mark.
    text = clean_title(title).encode("utf-8", "replace")[:room].decode("utf-8", "ignore").encode("utf-8")
    payload = head + text + tail
    units = -(-len(payload) // 16)
    return bytes([units]) + payload.ljust(16 * units, b"\0")


class Interleaver:
    """Inserts metadata blocks into the audio of one listener, counted from its first byte."""

    def __init__(self, metaint: int = METAINT) -> None:
        self._metaint = metaint
        self._left = metaint
        self._told = b""

    def feed(self, audio: bytes | memoryview, block: bytes) -> list[bytes | memoryview]:
        """Interleave the next audio.

        Args:
            audio: the bytes behind those of the previous call.
            block: ``metadata_block`` of the audio's title; b"" for none.

        Returns:
            Pieces to send in order; audio is not copied. The block is only written if it differs from the
            previous one, else a zero byte.
        """
        pieces: list[bytes | memoryview] = []
        view = memoryview(audio)
        while len(view) >= self._left:
            pieces.append(view[: self._left])
            view = view[self._left :]
            self._left = self._metaint
            pieces.append(UNCHANGED if block in (self._told, b"") else block)
            self._told = block or self._told
        if view:
            pieces.append(view)
            self._left -= len(view)
        return pieces


class Deinterleaver:
    """Separates audio and titles, as a player does; does no I/O.

    Args:
        metaint: bytes of audio between two blocks, by ``icy-metaint``; 0 for a stream without blocks.
    """

    def __init__(self, metaint: int) -> None:
        self._metaint = metaint
        self._left = metaint
        self._block: bytearray | None = None
        self._wanted = 0
        self.title = ""

    def receive_data(self, data: bytes) -> list[tuple[bytes, str]]:
        """Parse the next bytes, cut anywhere.

        Returns:
            Pieces of audio in order, each with its title.
        """
        if not self._metaint:
            return [(data, self.title)]
        pieces: list[tuple[bytes, str]] = []
        position = 0
        while position < len(data):
            if self._left:
                piece = data[position : position + self._left]
                self._left -= len(piece)
                position += len(piece)
                pieces.append((piece, self.title))
            elif self._block is None:
                self._block, self._wanted = bytearray(), 16 * data[position]
                position += 1
                self._end_block()
            else:
                piece = data[position : position + self._wanted - len(self._block)]
                self._block += piece
                position += len(piece)
                self._end_block()
        return pieces

    def _end_block(self) -> None:
        if self._block is None or len(self._block) < self._wanted:
            return
        if len(self._block) > 0:
            self.title = parse_title(bytes(self._block), self.title)
        self._block, self._left = None, self._metaint


def parse_title(block: bytes, before: str = "") -> str:
    """Read the title of a metadata block.

    Args:
        block: its text with padding, without the length byte.
        before: the previous title, which stays if the block has none.

    Returns:
        The text between ``StreamTitle='`` and the final ``';``; as UTF-8 if valid, else as Latin-1.
    """
    text = block.rstrip(b"\0")
    start = text.find(b"StreamTitle='")
    if start < 0:
        return before
    value = text[start + len(b"StreamTitle='") :]
    # Titles may have apostrophes: the next field, or else the last quote, marks the end.
    end = value.find(b"';Stream")
    if end < 0:
        end = value.rfind(b"'")
    value = value[:end] if end >= 0 else value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
