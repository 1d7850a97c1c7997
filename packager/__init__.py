"""How content becomes publishable: ffmpeg, segments, windows, titles, stations. Serves no HTTP."""
