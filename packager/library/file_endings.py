"""Endings of the names of files in a library, in lower case: films, music and subtitles."""

from __future__ import annotations

CONTAINERS = {
    ".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".m4a": "mov", ".3gp": "mov", ".3g2": "mov",
    ".m4b": "mov", ".webm": "matroska", ".weba": "matroska", ".mkv": "matroska", ".mka": "matroska",
    ".mp3": "mp3", ".aac": "aac", ".ogg": "ogg", ".oga": "ogg",
    ".opus": "ogg", ".flac": "flac", ".wav": "wav", ".ts": "mpegts", ".avi": "avi", ".wmv": "asf",
    ".flv": "flv", ".m2ts": "mpegts", ".mts": "mpegts", ".m2t": "mpegts", ".trp": "mpegts", ".f4v": "mov",
    ".qt": "mov", ".ogv": "ogg", ".ogm": "ogg", ".vob": "mpeg", ".mpg": "mpeg", ".mpeg": "mpeg",
    ".mpe": "mpeg", ".m2p": "mpeg", ".divx": "avi", ".asf": "asf", ".wma": "asf",
}  # fmt: skip
"""Extensions of listed files, with the only demuxer that may open each."""

SOUND_ENDINGS = (
    *(".mp3", ".m4a", ".m4b", ".aac", ".ogg", ".oga", ".opus", ".flac", ".wav", ".mka", ".weba"),
    *(".wma", ".aif", ".aiff", ".ape", ".wv"),
)
"""Endings of music, to which the cover beside it belongs."""

FILM_ENDINGS = tuple(ending for ending in CONTAINERS if ending not in SOUND_ENDINGS)
"""Endings of films."""

SUBTITLE_ENDINGS = (".srt", ".vtt", ".ass", ".ssa")
"""Endings of files with subtitles that belong to the film whose name theirs begins with."""

UNREAD_SUBTITLE_ENDINGS = (".sub", ".idx", ".sup", ".smi", ".ttml", ".dfxp", ".usf", ".mks")
"""Endings of files with subtitles that are beside films and can't be read."""

PLAYLIST_ENDING = ".playlist.json"
"""Ending of playlists of clips, which are listed among films."""


def ending_of(name: str) -> str:
    """Return the ending by which a file is listed, in lower case with its dot; without a dot, the name."""
    if name.endswith(PLAYLIST_ENDING):
        return PLAYLIST_ENDING
    _, dot, ending = name.rpartition(".")
    return dot + ending.lower()
