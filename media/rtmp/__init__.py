"""RTMP (Adobe's RTMP specification 1.0 and Veovera's Enhanced RTMP v2) and FLV tags."""
