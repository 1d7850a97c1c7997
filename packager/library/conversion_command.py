"""The command that converts a file which most browsers don't play, as a line for a shell."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath

from packager.library.file_endings import SOUND_ENDINGS
from packager.library.file_probe import REPACKAGED, Facts, unread_reason

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")

PICTURE = "-c:v libx264 -pix_fmt yuv420p -c:a aac -movflags +faststart"
SOUND = "-vn -c:a aac -movflags +faststart"
COPY = "-c copy -movflags +faststart"


def conversion_command(path: str, facts: Facts) -> str | None:
    """Return the line that makes an MP4 which browsers play, beside the file, in whose folder it is run.

    None where the file plays, and where no conversion helps, as with damaged and encrypted files.
    """
    name = PurePosixPath(path).name
    is_readable = bool(facts.codecs) or unread_reason(path) is not None
    is_encrypted = bool(facts.codecs) and not facts.codec_strings
    if facts.reason is None or not is_readable or is_encrypted or _CONTROLS.search(name):
        return None
    is_sound = name.lower().endswith(SOUND_ENDINGS)
    if facts.reason.endswith(REPACKAGED):
        words, ending = COPY, ".copy.mp4"
    elif is_sound:
        words, ending = SOUND, ".m4a"
    else:
        words, ending = PICTURE, ".h264.mp4"
    # A name may begin with a dash, or look like a protocol.
    source, made = f"file:{name}", f"file:{PurePosixPath(name).stem}{ending}"
    return f"ffmpeg -i {shlex.quote(source)} {words} {shlex.quote(made)}"
