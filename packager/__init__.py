"""How content becomes publishable: ffmpeg, segments, windows, titles, stations. No HTTP."""
