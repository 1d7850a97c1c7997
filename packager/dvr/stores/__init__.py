"""The store of small files beside a DVR, on disk or in S3."""
