"""What a live rendition publishes: segments, parts, their numbers, and who waits for the next."""
