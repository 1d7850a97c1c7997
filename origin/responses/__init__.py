"""Responses of representations and texts, and the header fields that all of them have."""
