"""Pushing a channel's stream on to other servers."""
