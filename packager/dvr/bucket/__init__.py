"""The DVR of live channels in an S3 bucket, which any node may read: segments, and pieces of their index."""
