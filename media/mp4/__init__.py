"""MP4 (ISO/IEC 14496-12): `boxes` and `languages`, and a room for each larger subject.

`movie` has ``moov`` boxes and sample tables, `fragments` movie fragments, `files` whole files, `codecs` codec
configuration and codec strings, and `text` subtitles and chapters.
"""
