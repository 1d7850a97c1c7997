"""The DVR of live channels: finished segments on disk, found again by the next process.

``index`` says what a line of a rendition's index is, ``folder`` keeps one rendition's files, ``archive`` does
so off the event loop for all of a channel's, and ``restore`` makes of what was found what windows take up.
"""
