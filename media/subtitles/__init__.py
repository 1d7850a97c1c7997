"""Subtitle files beside films, and WebVTT of live captions."""
