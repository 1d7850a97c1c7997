"""The commands of ``headwater``: serve, package, work, ingest, check and doctor."""
