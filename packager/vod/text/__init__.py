"""Subtitles and captions of films: embedded tracks, subtitle files beside the film, and their segments."""
