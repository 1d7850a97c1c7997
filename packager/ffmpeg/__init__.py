"""What ffmpeg and ffprobe are told: all their command lines, as graphs of ffmpeg-python where ffmpeg runs."""
