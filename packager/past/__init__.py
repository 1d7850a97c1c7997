"""Playlists, manifests and MP4s of what is over: recordings, and spans of the DVR. Callers read the media."""
