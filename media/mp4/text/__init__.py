"""Timed text in MP4: WebVTT (``wvtt``), ``tx3g``, and the titles of chapters."""
