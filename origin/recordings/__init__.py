"""Recordings of live events over HTTP: HLS, DASH, and one MP4 of each."""
