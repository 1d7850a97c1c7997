"""MPEG program streams: films of DVDs (VOB) and of MPEG-1 and MPEG-2 files."""
