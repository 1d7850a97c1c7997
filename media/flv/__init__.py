"""FLV (Adobe FLV 10.1, Enhanced RTMP v2): its tags, the packets in them, and what is made of those."""
