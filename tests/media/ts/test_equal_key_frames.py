"""Key frames in a row whose ``idr_pic_id`` is one, as joined recordings and repeated pictures have them."""

from __future__ import annotations

import subprocess

import pytest

from media.ts.access_units import AccessUnitReader
from media.ts.annex_b import H264, START_CODE, nal_units

CODING = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -x264-params slices=3"


@pytest.mark.clause("ISO/IEC 14496-10 §7.4.1.2.4")
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_key_frames_of_one_number_are_pictures_of_their_own(step: int) -> None:
    """The standard wants other numbers, which some don't write: the first macroblock parts them, too."""
    words = f"-nostdin -v error -f lavfi -i testsrc2=size=320x180 -frames:v 1 {CODING} -f h264 -"
    made = subprocess.run(["ffmpeg", *words.split()], check=True, capture_output=True).stdout
    slices = [unit for unit in nal_units(made) if H264.kind(unit) in H264.slices]
    assert len(slices) == 3
    picture = b"".join(START_CODE + bytes(unit) for unit in slices)
    reader, data = AccessUnitReader(H264, 1 << 20), picture * 4
    found = [unit for at in range(0, len(data), step) for unit in reader.push(data[at : at + step])]
    assert [unit.data for unit in found + reader.finish()] == [picture] * 4
