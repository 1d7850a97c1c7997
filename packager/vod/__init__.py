"""VOD: MP4, QuickTime, Matroska and MPEG-TS files published as HLS, their segments made on request.

``titles`` resolves names; ``index`` says what one file offers, and ``index_cache`` keeps that; ``edit_list``
places samples, and ``segment_boundaries`` cuts them; ``segment`` makes one segment; ``playlists`` says what
is there.
"""

from packager.vod.i_frame_file import IFrameFile
from packager.vod.limits import TitleLimits
from packager.vod.open_media import OpenIFrames, OpenSegment
from packager.vod.segment import Segment, ShortReadError
from packager.vod.titles import Titles

__all__ = ["IFrameFile", "OpenIFrames", "OpenSegment", "Segment", "ShortReadError", "TitleLimits", "Titles"]
