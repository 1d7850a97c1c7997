"""Matroska and WebM (RFC 9559), on EBML (RFC 8794): what a file says of its tracks, and where frames lie."""
