"""The live windows of renditions: segments, parts, their numbers, and requests that wait for the next.

The channel's producer appends entries to its ``log`` with a ``rendition_log_writer`` for each rendition. The
entries are folded into the ``window`` of each, here or, by ``log_encoding``, in another process.
"""
