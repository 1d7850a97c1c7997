"""Makes what keeps files in the S3 buckets that the configuration names, and bounds its cache on disk."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from origin.config.errors import CommandError
from origin.config.options import Config, size
from packager.s3.limits import S3Limits

if TYPE_CHECKING:
    from packager.dvr.bucket.dvr_bucket import DvrBucket


@contextlib.contextmanager
def making(place: str) -> Iterator[None]:
    """Import what S3 needs and make what uses it, while the context is open.

    Raises:
        CommandError: the extra isn't installed, or the address is wrong.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise CommandError(f"{place}: S3 needs an extra; install headwater[s3]") from None
    except ValueError as error:
        raise CommandError(f"{place}: {error}") from None


def cache_folder(config: Config) -> Path:
    """Name the folder where what was fetched is kept."""
    data = config.server.data
    return Path(data).expanduser() / "s3" if data else Path(tempfile.gettempdir())


def cache_limits(config: Config, limits: S3Limits) -> S3Limits:
    """Return the limits of S3, with the configured size of the cache."""
    return replace(limits, disk_bytes=size(config.library.cache))


def make_dvr_bucket(config: Config, limits: S3Limits) -> DvrBucket | None:
    """Make the place of the live channels' DVRs; None where that isn't in S3.

    Raises:
        CommandError: the extra isn't installed, or the address is wrong.
    """
    if not config.server.dvr_path:
        return None
    with making("server.dvr_path"):
        from packager.dvr.bucket.dvr_bucket import DvrBucket

        return DvrBucket(config.server.dvr_path, cache_folder(config), cache_limits(config, limits))
