"""Recordings of ended live events, as VOD at permanent addresses.

``metadata`` describes them, ``playlists`` and ``manifest`` are for HLS and DASH, ``progressive_mp4`` is one
MP4 without a copy of the media; ``recording_writer`` makes a recording of a channel's DVR, and
``disk_recordings`` keeps them.
"""
