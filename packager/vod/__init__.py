"""VOD: MP4, QuickTime and Matroska files published as HLS, their segments made on request.

``titles`` resolves names and keeps indexes; ``index`` says what one file offers; ``timeline`` places samples
and cuts them; ``segment`` makes one segment; ``playlists`` says what is there.
"""

from packager.vod.segment import Segment, ShortReadError
from packager.vod.titles import OpenIFrames, OpenSegment, TitleLimits, Titles

__all__ = ["OpenIFrames", "OpenSegment", "Segment", "ShortReadError", "TitleLimits", "Titles"]
