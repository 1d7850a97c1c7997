"""VOD: MP4, QuickTime, Matroska and MPEG-TS files as HLS and DASH, with segments that are made on request.

`titles` finds files by the names in requests, and `playlists` and `manifest` say what players may ask for.
`movie` reads a file's tables, `index` keeps what is offered of each file, `segments` makes the segments,
`text` the subtitles, `pictures` the thumbnails, and `sprites` draws these.
"""

from packager.vod.limits import TitleLimits
from packager.vod.pictures.i_frame_file import IFrameFile, OpenIFrames
from packager.vod.segments.segment import FilmSegment, OpenSegment, ShortReadError
from packager.vod.titles import Titles

__all__ = [
    "FilmSegment",
    "IFrameFile",
    "OpenIFrames",
    "OpenSegment",
    "ShortReadError",
    "TitleLimits",
    "Titles",
]
