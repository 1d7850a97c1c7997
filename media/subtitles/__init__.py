"""Files of subtitles that people lay beside films."""
