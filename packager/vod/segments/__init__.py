"""Segments of films and of clips: decode times, bit rates, and the bytes of one segment."""
