"""All command lines of ffmpeg and ffprobe; those of ffmpeg are graphs of ffmpeg-python."""
