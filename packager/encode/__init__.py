"""Encoding on request: renditions of films that are encoded segment by segment, when somebody asks for them.

`renditions` says which renditions a film gets, and describes each as a track whose playlists are complete
before anything is encoded. `source_samples` finds what a segment needs of the film, `segment_encoder` has it
encoded by an ffmpeg, `encode_queue` decides whose turn it is and caches what was encoded, and `preparation`
has films encoded ahead of time.
"""
