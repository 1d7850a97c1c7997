"""Muxers: packets are written as fragmented MP4 for viewers, and as Matroska and FLV for ffmpeg."""
