"""Media types: of files, in a fixed table that is the same on every machine, and as Content-Type has them."""

from __future__ import annotations

DEFAULT = "application/octet-stream"

_BY_SUFFIX = {
    "3g2": "video/3gpp2",
    "3gp": "video/3gpp",
    "aac": "audio/aac",
    "adts": "audio/aac",
    "asf": "video/x-ms-asf",
    "avi": "video/vnd.avi",
    "avif": "image/avif",
    "cmfa": "audio/mp4",
    "cmfv": "video/mp4",
    "divx": "video/vnd.avi",
    "f4v": "video/mp4",
    "flac": "audio/flac",
    "flv": "video/x-flv",
    "gif": "image/gif",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "m3u8": "application/vnd.apple.mpegurl",
    "m4a": "audio/mp4",
    "m4b": "audio/mp4",
    "m4s": "video/mp4",
    "m4v": "video/mp4",
    "mka": "audio/matroska",
    "mkv": "video/matroska",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "m2p": "video/mpeg",
    "mpe": "video/mpeg",
    "mpeg": "video/mpeg",
    "mpg": "video/mpeg",
    "mpd": "application/dash+xml",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "ogm": "video/ogg",
    "ogv": "video/ogg",
    "opus": "audio/ogg",
    "png": "image/png",
    "qt": "video/quicktime",
    "srt": "application/x-subrip",
    "ts": "video/mp2t",
    "m2t": "video/mp2t",
    "m2ts": "video/mp2t",
    "mts": "video/mp2t",
    "trp": "video/mp2t",
    "txt": "text/plain; charset=utf-8",
    "vob": "video/mpeg",
    "vtt": "text/vtt; charset=utf-8",
    "wav": "audio/wav",
    "weba": "audio/webm",
    "webm": "video/webm",
    "webp": "image/webp",
    "wma": "audio/x-ms-wma",
    "wmv": "video/x-ms-wmv",
}


def media_type(name: str) -> str:
    """Return the Content-Type (RFC 9110 §8.3) of a file by the last suffix of its name, or `DEFAULT`."""
    _, dot, suffix = name.rpartition(".")
    return _BY_SUFFIX.get(suffix.lower(), DEFAULT) if dot else DEFAULT


def media_type_in(content_type: str) -> str:
    """Return the media type of a Content-Type in lower case, without parameters (RFC 9110 §8.3.1)."""
    return content_type.partition(";")[0].strip().lower()
