"""VOD: MP4, QuickTime, Matroska and MPEG-TS files as HLS and DASH, with segments that are made on request.

`file_lookup` finds files by the names in requests, and `titles` writes their playlists and manifests, with
the contents of `playlists` and `manifest`. `film_segments`, `film_texts` and `film_pictures` return a film's
media, subtitles and I-frames, and `film_facts` what the catalogue says of it. `movie` reads a file's tables,
`index` keeps what is offered of each file, `segments` makes the segments, `text` the subtitles, `pictures`
the thumbnails, and `sprites` draws these.
"""

from packager.vod.film_segments import OpenMedia
from packager.vod.limits import TitleLimits
from packager.vod.pictures.i_frame_file import IFrameFile
from packager.vod.segments.segment import FilmSegment, ShortReadError
from packager.vod.titles import Titles

__all__ = [
    "FilmSegment",
    "IFrameFile",
    "OpenMedia",
    "ShortReadError",
    "TitleLimits",
    "Titles",
]
