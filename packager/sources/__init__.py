"""The sources of live channels: files, pulled URLs and published streams, on their way into ffmpeg."""
