"""The DVR of live channels: finished segments on disk, found again by the next process.

``index`` says what a line of a rendition's index is, and ``folder`` keeps one rendition's files.
``segment_store`` is what windows hand segments over to, and where these wait; ``writer`` brings them to the
folders off the event loop, and ``trouble`` says how that goes. ``restore`` makes of what was found what
windows take up. The ``archive`` is all of it for one channel.
"""
