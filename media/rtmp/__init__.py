"""What RTMP carries: FLV tags."""
