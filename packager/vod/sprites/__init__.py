"""Sprites of films: drawn in the background by an ffmpeg each, and kept in memory and on disk."""
