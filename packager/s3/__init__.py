"""A library in an S3 bucket: requests, a bounded cache of what was fetched, files and their listing.

Objects are only ever read by range, in blocks that the cache keeps and that are fetched once for all who want
them. Nothing here is imported unless a library is configured to be in S3.
"""
