"""Codecs in MP4: sample entries, codec configuration, and parameter sets of the coded streams."""
