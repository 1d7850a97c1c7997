"""The past of a live channel over HTTP: spans, delays, clips and pictures of what its DVR keeps."""
