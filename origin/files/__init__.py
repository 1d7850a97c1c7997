"""The library's files, byte for byte: ``/media/PATH``."""
