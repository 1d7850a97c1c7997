"""Recordings of ended live events, as VOD at permanent addresses.

``note`` is the metadata, ``playlists`` and ``manifest`` are for HLS and DASH, ``movie`` is one MP4 without a
copy of the media; ``seal`` makes a recording of a channel's DVR, and ``collection`` keeps them.
"""
