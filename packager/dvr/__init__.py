"""The DVR of live channels: finished segments on disk, restored by the next process.

``index`` is the format of a rendition's index, ``disk_rendition`` keeps one rendition's files,
``write_queue`` holds what windows hand over, ``disk_writer`` stores it off the event loop, and
``segment_removal`` deletes what is over or has no room. ``restore_plan`` decides what windows take up again,
and ``disk_archive`` is all of it for one channel. Segments that have left the playlist are in
``stored_blocks``, which ``block_writer`` writes and ``past_blocks`` searches.
"""
