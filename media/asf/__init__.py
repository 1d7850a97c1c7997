"""ASF files: Windows Media Video and Audio."""
