"""A sandboxed program that sends a stream from standard input to an RTMP or SRT URL by libavformat.

The ffmpeg program would have the URL, with the stream's key, among its arguments, which other processes can
see. Here it is a line on standard input. Behind it comes the stream: FLV for RTMP, MPEG-TS for SRT.

    python -I -S avio_writer.py LIBAVFORMAT AUTHORITIES

The file AUTHORITIES has the certificates of trusted authorities, for RTMPS.
"""

import ctypes
import os
import sys

OUTPUT = 3
"""The descriptor of the first pipe, as the launcher sets it up."""

READ_BYTES = 1 << 16
PACKET_BYTES = 188
AVIO_FLAG_WRITE, AV_LOG_ERROR = 2, 16
ERROR_BYTES = 128
RELEASES = range(59, 63)
"""Major versions of libavformat whose ``AVIOContext`` begins as below: those of ffmpeg 5 to 8."""


class Context(ctypes.Structure):
    """The beginning of ``AVIOContext`` (libavformat/avio.h), which has no function for its error."""

    _fields_ = (
        ("pointers_and_size", ctypes.c_void_p * 9),
        ("pos", ctypes.c_int64),
        ("eof_reached", ctypes.c_int),
        ("error", ctypes.c_int),
    )


def main() -> None:
    """Send until the end of standard input; write an error to standard error."""
    library = ctypes.CDLL(sys.argv[1])
    if library.avformat_version() >> 16 not in RELEASES:
        sys.exit("this release of libavformat isn't known")
    library.av_log_set_level(AV_LOG_ERROR)
    library.avformat_network_init()
    context = ctypes.POINTER(Context)()
    url = read_line()
    options = ctypes.c_void_p()
    if url.startswith(b"rtmps:"):
        # By default libavformat would send the stream's key to any server that answers.
        for name, value in ((b"tls_verify", b"1"), (b"ca_file", os.fsencode(sys.argv[2]))):
            library.av_dict_set(ctypes.byref(options), name, value, 0)
    status = library.avio_open2(ctypes.byref(context), url, AVIO_FLAG_WRITE, None, ctypes.byref(options))
    if status >= 0:
        os.write(OUTPUT, b"connected\n")
        # A datagram of SRT has whole packets.
        status = send(library, context, PACKET_BYTES if url.startswith(b"srt:") else 1)
    if status < 0:
        text = ctypes.create_string_buffer(ERROR_BYTES)
        library.av_strerror(status, text, ERROR_BYTES)
        os.write(sys.stderr.fileno(), text.value + b"\n")
        sys.exit(1)
    library.avio_closep(ctypes.byref(context))


def read_line() -> bytes:
    """Read a line of standard input, and nothing of what is behind it."""
    line = b""
    while (byte := os.read(sys.stdin.fileno(), 1)) not in (b"", b"\n"):
        line += byte
    return line


def send(library: ctypes.CDLL, context: "ctypes._Pointer[Context]", unit: int) -> int:
    """Send until the end of standard input; return the error, or 0."""
    kept = b""
    while data := os.read(sys.stdin.fileno(), READ_BYTES):
        kept += data
        whole = len(kept) - len(kept) % unit
        library.avio_write(context, kept[:whole], whole)
        library.avio_flush(context)
        kept = kept[whole:]
        if context.contents.error < 0:
            return int(context.contents.error)
    return 0


if __name__ == "__main__":
    main()
