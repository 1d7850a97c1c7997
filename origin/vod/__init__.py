"""HLS and DASH of the library's files, made on request: ``/vod/PATH``."""
