"""A sandboxed program that copies a URL's bytes to a pipe by means of libavformat.

The ffmpeg program would remux the stream and hide changes in it; libavformat's avio functions don't. The URL
is a line on standard input, since other processes can see arguments.

    python -I -S avio_reader.py LIBAVFORMAT
"""

import ctypes
import os
import sys

OUTPUT = 3
"""The descriptor of the first pipe, as the launcher sets it up."""

READ_BYTES = 1 << 16
AVIO_FLAG_READ, AV_LOG_ERROR = 1, 16
AVERROR_EOF = -0x20464F45
"""libavutil/error.h: the letters of EOF and a space, as a number below zero."""

AVERROR_PROTOCOL_NOT_FOUND = -0x4F5250F8
INCAPABLE = 2
"""Exit status if the library is missing or doesn't support the URL's protocol."""

ERROR_BYTES = 128


def main() -> None:
    """Copy until the end; write an error to standard error."""
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
