"""Recordings of ended live events, as VOD at permanent addresses.

``metadata`` describes them, ``playlists`` and ``manifest`` are for HLS and DASH, ``movie`` is one MP4 without
a copy of the media; ``seal`` makes a recording of a channel's DVR, and ``collection`` keeps them.
"""
