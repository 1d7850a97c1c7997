"""The live windows of renditions: segments, parts, their numbers, and requests that wait for the next.

Whoever makes a channel appends entries to its ``log`` with a ``rendition_log_writer`` for each rendition;
folding them gives the ``window`` of each, here or, by ``log_encoding``, in another process.
"""
