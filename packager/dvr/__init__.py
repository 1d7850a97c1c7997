"""The DVR of live channels: finished segments on disk, restored by the next process.

``index`` is the format of a rendition's index, ``folder`` keeps one rendition's files, ``write_queue`` holds
what windows hand over, ``writer`` stores it off the event loop, ``restore`` decides what windows take up
again, and ``disk_archive`` is all of it for one channel.
"""
