"""Runs as a program of its own, in its sandbox: what comes from a URL goes to a pipe, byte for byte.

ffmpeg's programs look into what they fetch, and what they make of it hides changes; the library that they
fetch with doesn't. Which URL, a line on standard input says: arguments are seen by every process.

    python -I -S avio_reader.py LIBAVFORMAT
"""

import ctypes
import os
import sys

OUTPUT = 3
"""Where the launcher puts the first pipe."""

READ_BYTES = 1 << 16
AVIO_FLAG_READ, AV_LOG_ERROR = 1, 16
AVERROR_EOF = -0x20464F45
"""libavutil/error.h: the letters of EOF and a space, as a number below zero."""

AVERROR_PROTOCOL_NOT_FOUND = -0x4F5250F8
INCAPABLE = 2
"""Exit status where it can't be done here: there is no such library, or it wasn't built for such URLs."""

ERROR_BYTES = 128


def main() -> None:
    """Fetch until the end, which is told on standard error where it is none by itself."""
    try:
        library = ctypes.CDLL(sys.argv[1])
    except OSError:
        sys.exit(INCAPABLE)
    library.av_log_set_level(AV_LOG_ERROR)
    library.avformat_network_init()
    context = ctypes.c_void_p()
    url = sys.stdin.buffer.readline().rstrip(b"\n")
    status = library.avio_open2(ctypes.byref(context), url, AVIO_FLAG_READ, None, None)
    buffer = ctypes.create_string_buffer(READ_BYTES)
    view = memoryview(buffer)
    while status >= 0:
        status = library.avio_read_partial(context, buffer, READ_BYTES)
        if status == 0:
            return
        sent = 0
        while sent < status:
            sent += os.write(OUTPUT, view[sent:status])
    if status != AVERROR_EOF:
        library.av_strerror(status, buffer, ERROR_BYTES)
        os.write(sys.stderr.fileno(), buffer.value + b"\n")
        sys.exit(INCAPABLE if status == AVERROR_PROTOCOL_NOT_FOUND else 1)


if __name__ == "__main__":
    main()
