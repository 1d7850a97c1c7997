"""Where a live channel's stream comes from, and how it gets into ffmpeg."""
