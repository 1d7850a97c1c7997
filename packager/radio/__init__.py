"""A station's audio: tracks, frames, sources, encoding."""
