"""Media formats: reads and writes boxes, fragments, codec strings, playlists, frames. No I/O, no clock."""
