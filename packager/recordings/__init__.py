"""Recordings of live channels: events that are over, as VOD at addresses that stay.

``note`` says what a recording is, ``playlists`` what its playlists say, ``movie`` makes one MP4 of it without
a copy of its media, ``seal`` makes a recording of a channel's DVR, and ``collection`` keeps them.
"""
