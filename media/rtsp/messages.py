"""Reads and rewrites RTSP 1.0 messages (RFC 2326) for a relay between client and server.

A connection carries messages and interleaved frames (§10.12), which are passed on unchanged.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from media.errors import MalformedError, TooLargeError

FRAME = 0x24
"""RFC 2326 §10.12: a frame begins with a dollar sign, its channel, and two bytes of length."""

FRAME_HEAD_BYTES = 4
_BLANK = re.compile(rb"[\r\n]*")
_END = re.compile(rb"\r?\n\r?\n")
_PARAMETER = re.compile(r'\b(\w+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))')


@dataclass(frozen=True, slots=True, kw_only=True)
class RtspMessageLimits:
    """Limits of a message.

    Attributes:
        head_bytes: Longest head.
        body_bytes: Longest body; session descriptions have a few kilobytes.
    """

    head_bytes: int = 16 << 10
    body_bytes: int = 256 << 10


DEFAULT_LIMITS = RtspMessageLimits()


@dataclass(frozen=True, slots=True)
class RtspMessage:
    """A request or a response.

    Attributes:
        first: the parts of its first line: method, URI and version, or version, status and reason.
        fields: names and values of its header, in order.
    """

    first: tuple[str, str, str]
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def is_response(self) -> bool:
        """Whether the message is a response."""
        return self.first[0].startswith("RTSP/")

    @property
    def status(self) -> int:
        """The status of a response; 0 for a request."""
        return int(self.first[1]) if self.is_response and re.fullmatch("[0-9]{3}", self.first[1]) else 0

    def get(self, name: str) -> str:
        """Return the value of the first header field with a name; empty if there is none."""
        return next((value for one, value in self.fields if one.lower() == name.lower()), "")

    def with_field(self, name: str, value: str | None) -> RtspMessage:
        """Return the message with a header field replaced, or removed for None."""
        kept = tuple(one for one in self.fields if one[0].lower() != name.lower())
        return replace(self, fields=kept if value is None else (*kept, (name, value)))

    def encode(self) -> bytes:
        """Serialize the message."""
        lines = [" ".join(self.first).rstrip(), *(f"{name}: {value}" for name, value in self.fields), "", ""]
        return "\r\n".join(lines).encode("latin-1") + self.body


@dataclass(slots=True)
class RtspReader:
    """Reads the messages and frames of a connection; does no I/O."""

    limits: RtspMessageLimits = DEFAULT_LIMITS
    _held: bytearray = field(default_factory=bytearray)
    # Bytes without the end of a head, and bytes that must be there before the next search.
    _searched: int = 0
    _needed: int = 0

    def receive_data(self, data: bytes) -> list[RtspMessage | bytes]:
        """Parse the next bytes; return messages, and consecutive frames as one bytes object.

        Raises:
            MalformedError: the bytes aren't RTSP.
            TooLargeError: a message exceeds a limit.
        """
        self._held += data
        found: list[RtspMessage | bytes] = []
        while True:
            frames = _frames_end(self._held)
            if frames:
                found.append(bytes(self._held[:frames]))
                del self._held[:frames]
            if not self._held or self._held[0] == FRAME:
                return found
            message = self._message()
            if message is None:
                return found
            found.append(message)

    def _message(self) -> RtspMessage | None:
        """Parse the next message; return None while it is incomplete."""
        if len(self._held) < self._needed:
            return None
        # RFC 2326 §4: empty lines before a message are ignored.
        start = _BLANK.match(self._held)
        blank = 0 if start is None else start.end()
        end = _END.search(self._held, max(blank, self._searched), blank + self.limits.head_bytes)
        if end is None:
            if len(self._held) - blank >= self.limits.head_bytes or blank > self.limits.head_bytes:
                raise TooLargeError("an RTSP message whose head is too long")
            self._searched = max(0, len(self._held) - 3)
            return None
        message = _head(bytes(self._held[blank : end.start()]).decode("latin-1"))
        told = message.get("content-length") or "0"
        if not re.fullmatch("[0-9]+", told):
            raise MalformedError("an RTSP message whose Content-Length is no number")
        if len(told) > 7 or int(told) > self.limits.body_bytes:
            raise TooLargeError(f"an RTSP message with a body of more than {self.limits.body_bytes} bytes")
        whole = end.end() + int(told)
        if len(self._held) < whole:
            self._needed, self._searched = whole, end.start()
            return None
        self._needed = self._searched = 0
        message = replace(message, body=bytes(self._held[end.end() : whole]))
        del self._held[:whole]
        return message


def frame(channel: int, payload: bytes) -> bytes:
    """Write a frame of media (RFC 2326 §10.12)."""
    return bytes((FRAME, channel)) + len(payload).to_bytes(2, "big") + payload


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Split complete frames: channels and payloads."""
    found: list[tuple[int, bytes]] = []
    place = 0
    while place + FRAME_HEAD_BYTES <= len(data):
        begin = place + FRAME_HEAD_BYTES
        place = begin + int.from_bytes(data[begin - 2 : begin], "big")
        found.append((data[begin - 3], data[begin:place]))
    return found


def _frames_end(held: bytearray) -> int:
    """Return the offset behind the complete frames at the beginning of the buffer."""
    place, size = 0, len(held)
    while place + FRAME_HEAD_BYTES <= size and held[place] == FRAME:
        end = place + FRAME_HEAD_BYTES + (held[place + 2] << 8 | held[place + 3])
        if end > size:
            break
        place = end
    return place


def _head(text: str) -> RtspMessage:
    first, *lines = text.replace("\r\n", "\n").split("\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not (words[0].startswith("RTSP/") or words[-1].startswith("RTSP/")):
        raise MalformedError("not an RTSP message")
    fields: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            fields.append((name.strip(), value.strip()))
    return RtspMessage((words[0], words[1], words[2] if len(words) > 2 else ""), tuple(fields))


def transport(value: str) -> dict[str, str]:
    """Parse the first choice of a Transport field (RFC 2326 §12.39): parameters by lower-case name."""
    words = value.partition(",")[0].split(";")
    return {name.strip().lower(): told.strip() for name, _, told in (word.partition("=") for word in words)}


def numbers(value: str) -> tuple[int, int] | None:
    """Parse a pair of ports or channels, such as ``5000-5001``; a single one is followed by the next."""
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", value)
    if match is None:
        return None
    first = int(match[1])
    return first, int(match[2]) if match[2] else first + 1


def authorization_for_uri(authorization: str, method: str, uri: str, user: str, password: str) -> str | None:
    """Recompute a digest Authorization field for another URI.

    Args:
        authorization: the field, of any scheme.

    Returns:
        The field for that URI; None if the original isn't valid for that password.
    """
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() != "digest":
        return authorization
    told = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(rest)}
    known = unquote(user), unquote(password)
    before = _digest(told, method, told.get("uri", ""), *known)
    after = _digest(told, method, uri, *known)
    if before is None or after is None or told.get("username") != known[0]:
        return None
    # As bytes: compare_digest accepts only ASCII text.
    if not hmac.compare_digest(before.encode(), told.get("response", "").lower().encode()):
        return None
    if '"' in uri:
        return None
    changed = re.sub(r'\buri\s*=\s*"[^"]*"', lambda _: f'uri="{uri}"', rest, count=1)
    return f"{scheme} " + re.sub(r'\bresponse\s*=\s*"[^"]*"', f'response="{after}"', changed, count=1)


def _digest(told: dict[str, str], method: str, uri: str, user: str, password: str) -> str | None:
    """Compute the response of a digest (RFC 2617 §3.2.2); None for an unsupported algorithm."""
    algorithm, quality = told.get("algorithm", "MD5").upper(), told.get("qop", "")
    if algorithm not in ("MD5", "MD5-SESS") or quality not in ("", "auth"):
        return None
    nonce, client = told.get("nonce", ""), told.get("cnonce", "")
    secret = _md5(f"{user}:{told.get('realm', '')}:{password}")
    if algorithm == "MD5-SESS":
        secret = _md5(f"{secret}:{nonce}:{client}")
    middle = f"{nonce}:{told.get('nc', '')}:{client}:auth" if quality else nonce
    return _md5(f"{secret}:{middle}:{_md5(f'{method}:{uri}')}")


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
