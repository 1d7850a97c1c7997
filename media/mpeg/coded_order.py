"""The order of presentation of pictures in files with times of decoding: AVI, ASF, in part Matroska."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from media.errors import UnsupportedError
from media.mp4.codecs.sequence_parameters import avc_parameters
from media.mp4.movie.assembled_samples import Read
from media.mp4.movie.box_arrays import Int64
from media.mpeg.picture_order import presentation_order
from media.mpeg.picture_order_count import IDR_SLICE, PictureOrder
from media.mpeg.video_headers import (
    BIDIRECTIONAL,
    INTRA,
    PREDICTED,
    object_layer,
    picture_kind,
    plane_kind,
)

FIRST_BYTES = 4 << 10
"""Bytes of the first picture in which the headers of MPEG-4 are looked for."""

HEAD_BYTES = 32
"""Bytes of a picture from which its coding type is read."""

EMPTY_PICTURE_BYTES = 19
"""Most bytes of a picture of a packed bitstream that only stands for one that was sent before."""

PACKED = re.compile(rb"DivX\d{1,5}(?:b|Build)\d{1,6}p")
"""User data of DivX: a chunk may have two pictures, the second of which belongs to a later chunk."""

MPEG4 = "MPEG-4 Part 2 video"
CODED_KINDS: Mapping[str, tuple[bytes, Callable[[bytes], int]]] = {
    MPEG4: (b"\0\0\1\xb6", plane_kind),
    "MPEG-2 video": (b"\0\0\1\0", picture_kind),
    "MPEG-1 video": (b"\0\0\1\0", picture_kind),
}
"""Start codes of pictures, and what reads their coding types."""

SLICES = re.compile(rb"\x00\x00\x01(?=[\x01\x21\x41\x61\x05\x25\x45\x65])")
SLICE_BYTES = 128
"""Start codes of slices of H.264, and bytes of a picture that mostly hold the first."""

MAX_UNITS_AHEAD = 32
"""Most units of a picture before its first slice: parameter sets, and what else is said of it."""

INTRA_ONLY = ("JPEG pictures", "DV", "Huffyuv")
"""Codings of which each picture can be decoded by itself."""


def is_avc_configuration(headers: bytes) -> bool:
    """Return whether the headers of H.264 are an ``avcC``: its units have lengths in place of start codes."""
    return len(headers) > 8 and headers[0] == 1 and headers[5] & 31 > 0 and headers[8] & 31 == 7


class CodedPictures:
    """The pictures of a track, whose beginnings say in which order they are presented.

    Only beginnings of pictures are read, and none where no picture can be out of order.

    Args:
        name: the codec, as :func:`media.mp4.codecs.decodable_entry.codec_of_fourcc` names it.
        read: reads from the file; it may block.
        offsets: where each picture begins, in the order of decoding.
        sizes: bytes of each picture.
        headers: the decoder's configuration, if the file has it apart.
    """

    def __init__(self, name: str, read: Read, offsets: Int64, sizes: Int64, headers: bytes = b"") -> None:
        self._headers = headers
        self._name, self._read, self._offsets, self._sizes = name, read, offsets, sizes

    def order(self, keys: NDArray[np.bool_] | None) -> tuple[Int64 | None, int, NDArray[np.bool_]]:
        """Return the places of pictures in the order of presentation, their delay, and the key frames.

        Args:
            keys: whether decoding can begin with each picture; None if the file doesn't say.

        Returns:
            The places, None if no picture is out of order; by how many pictures presentation is later than
            decoding; and which pictures are key frames.

        Raises:
            UnsupportedError: the order isn't in the pictures.
            MalformedError: headers are cut off, or have impossible values.
        """
        name = self._name
        if name == "H.264":
            order, found = self._counted_order()
            delay = int((np.arange(len(order)) - order).max(initial=0))
            return order, delay, found if keys is None else keys
        kinds = None
        if name in CODED_KINDS:
            kinds = self._kinds(keys)
        if kinds is None:
            return None, 0, self._plain_keys() if keys is None else keys
        first = self._headers + self._read(int(self._offsets[0]), FIRST_BYTES)
        is_packed = PACKED.search(first) is not None
        is_bidirectional = kinds == BIDIRECTIONAL
        delay = int(not is_packed and bool(is_bidirectional.any()))
        return presentation_order(is_bidirectional), delay, kinds == INTRA if keys is None else keys

    def presented(self, ticks: Int64, keys: NDArray[np.bool_]) -> Int64:
        """Return when pictures are presented, by their times in the file, which are of decoding if they rise.

        Args:
            ticks: times of the pictures in the order of the file.
            keys: whether decoding can begin with each.

        Raises:
            UnsupportedError: the order isn't in the pictures.
            MalformedError: headers are cut off, or have impossible values.
        """
        if (np.diff(ticks) < 0).any():
            return ticks
        order, delay, _ = self.order(keys)
        if order is None:
            return ticks
        usual = int(np.median(np.diff(ticks))) if len(ticks) > 1 else 0
        return ticks[order] + delay * usual

    def _counted_order(self) -> tuple[Int64, NDArray[np.bool_]]:
        """Read the order of H.264 pictures from their slices, and which of them begin sequences."""
        offsets, sizes = self._offsets, self._sizes
        if is_avc_configuration(self._headers):
            return self._counted_by_lengths()
        first = self._headers + self._read(int(offsets[0]), min(int(sizes[0]), FIRST_BYTES))
        sets = [first[at.end() :] for at in re.finditer(rb"\x00\x00\x01(?=[\x07\x27\x47\x67])", first)]
        if not sets:
            raise UnsupportedError("H.264 without parameter sets before its first picture")
        parameters = avc_parameters(sets[0]).order
        if parameters is None:
            raise UnsupportedError("H.264 without an order of pictures")
        order, keys = PictureOrder(parameters), np.zeros(len(offsets), bool)
        for at, (offset, size) in enumerate(zip(offsets.tolist(), sizes.tolist(), strict=True)):
            head = self._read(offset, min(size, SLICE_BYTES))
            found = SLICES.search(head)
            if found is None and size > SLICE_BYTES:
                head = self._read(offset, min(size, FIRST_BYTES))
                found = SLICES.search(head)
            if found is None:
                order.push_unknown()
                continue
            order.push(head[found.end() :])
            keys[at] = head[found.end()] & 31 == IDR_SLICE
        return order.places(), keys

    def _counted_by_lengths(self) -> tuple[Int64, NDArray[np.bool_]]:
        """Read the same of pictures whose units come with their lengths, as MP4 has them."""
        # ISO/IEC 14496-15 §5.3.3.1
        width, size = (self._headers[4] & 3) + 1, int.from_bytes(self._headers[6:8], "big")
        parameters = avc_parameters(self._headers[8 : 8 + size]).order
        if parameters is None:
            raise UnsupportedError("H.264 without an order of pictures")
        order, keys = PictureOrder(parameters), np.zeros(len(self._offsets), bool)
        for at, (offset, length) in enumerate(zip(self._offsets.tolist(), self._sizes.tolist(), strict=True)):
            found = self._first_slice(offset, offset + length, width)
            if not found:
                order.push_unknown()
                continue
            order.push(found)
            keys[at] = found[0] & 31 == IDR_SLICE
        return order.places(), keys

    def _first_slice(self, begin: int, end: int, width: int) -> bytes:
        """Return the beginning of a picture's first slice; no bytes if it isn't among its first units."""
        for _ in range(MAX_UNITS_AHEAD):
            head = self._read(begin, min(end - begin, SLICE_BYTES))
            if len(head) <= width:
                break
            if head[width] & 31 in (1, IDR_SLICE):
                return head[width:]
            begin += width + int.from_bytes(head[:width], "big")
            if begin >= end:
                break
        return b""

    def _kinds(self, keys: NDArray[np.bool_] | None) -> NDArray[np.uint8] | None:
        """Read the coding types of pictures; return None where the stream says that it has no B pictures."""
        name, offsets, sizes = self._name, self._offsets, self._sizes
        first = self._headers + self._read(int(offsets[0]), min(int(sizes[0]), FIRST_BYTES))
        layer = re.search(rb"\x00\x00\x01[\x20-\x2f]", first)
        has_bidirectional = True
        if layer is not None and name == MPEG4:
            has_bidirectional = object_layer(first[layer.start() :]).has_bidirectional
        if keys is not None and not has_bidirectional:
            return None
        is_packed = PACKED.search(first) is not None
        kinds, (code, parse) = np.full(len(offsets), INTRA, np.uint8), CODED_KINDS[name]
        unknown = np.arange(len(offsets)) if keys is None else np.flatnonzero(~keys)
        for at in unknown.tolist():
            length = int(sizes[at])
            if is_packed and length <= EMPTY_PICTURE_BYTES:
                kinds[at] = BIDIRECTIONAL
                continue
            head = self._read(int(offsets[at]), min(length, HEAD_BYTES if keys is not None else FIRST_BYTES))
            begin = head.find(code)
            kinds[at] = (parse(head[begin:]) if begin >= 0 else 0) or PREDICTED
        return kinds

    def _plain_keys(self) -> NDArray[np.bool_]:
        """Find key frames of codings whose pictures say so in their first bits, or that have no others."""
        if self._name != "MPEG-4 of Microsoft":
            return np.full(len(self._offsets), self._name in INTRA_ONLY)
        heads = [self._read(at, 1) for at in self._offsets.tolist()]
        return np.array([head < b"\x40" for head in heads])
