"""FLV (Adobe FLV 10.1, Enhanced RTMP v2): tags, the packets in them, and conversions of these."""
