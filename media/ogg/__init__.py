"""Ogg (RFC 3533): pages, the headers of its codecs, chained streams."""
