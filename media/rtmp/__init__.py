"""RTMP's media: FLV tags."""
