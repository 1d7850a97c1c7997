"""Clients that pull a channel's source from elsewhere: HTTP and HLS, RTSP, SRT and UDP."""
