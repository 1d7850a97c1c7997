"""Recordings of ended live events, as VOD at permanent addresses.

``metadata`` describes them, ``recording_writer`` makes a recording of a channel's DVR, ``span_keeper`` makes
those of spans of its time, and ``disk_recordings`` keeps them; their playlists, manifests and MP4s are those
of ``packager/past``.
"""
