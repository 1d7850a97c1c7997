"""Child processes: ffmpeg and ffprobe, started in a sandbox, their pipes drained."""
