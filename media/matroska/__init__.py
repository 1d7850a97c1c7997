"""Matroska and WebM (RFC 9559), on EBML (RFC 8794): tracks, positions of frames, and live writing."""
