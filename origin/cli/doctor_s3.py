"""The check of a library in S3 by ``headwater doctor``: reach, listing, reading, storing, and the clock."""

from __future__ import annotations

import http.client
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from origin.cli.diagnosis import Diagnosis, Verdict
from packager.library.local_storage import NotFoundError
from packager.s3.endpoint import endpoint_of
from packager.s3.limits import S3Limits

if TYPE_CHECKING:
    from packager.s3.client import S3Client

SUBJECT = "library in S3"

DATE_SECONDS = 5.0
"""Longest wait for S3's answer, whose Date field has its time."""

SKEW_SECONDS = 600.0
"""Most seconds by which the clocks may differ: S3 refuses requests beyond 15 minutes."""

NOTE_SECONDS = 30.0
"""Difference of the clocks from which the doctor advises to set them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketCheckTimeouts:
    """Timeouts of the checks of a bucket."""

    requests: S3Limits = field(default_factory=S3Limits)


def examine_bucket(
    address: str,
    limits: BucketCheckTimeouts,
    clock: Callable[[], float] = time.time,
    *,
    stores_segments: bool = False,
) -> Iterator[Diagnosis]:
    """Examine whether a bucket can be reached, listed and read, and compare the clocks.

    Args:
        address: ``s3://bucket/prefix``.
        clock: seconds since the epoch.
        stores_segments: whether encoded segments are stored in the bucket, which is tried with an object.
    """
    try:
        # Here and not above: it is an extra, which most servers don't have.
        from packager.s3.client import AccessRefusedError, S3Client, UnavailableError
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        yield Diagnosis(SUBJECT, Verdict.FAULT, f"{address} needs an extra; install headwater[s3]")
        return
    try:
        client = S3Client(address, limits.requests)
        page = next(client.objects(), [])
    except ValueError as error:
        yield Diagnosis(SUBJECT, Verdict.FAULT, f"{error}; set library.path and the AWS_* variables")
        return
    except AccessRefusedError as error:
        advice = (
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION say who asks; it needs s3:ListBucket"
        )
        yield Diagnosis(SUBJECT, Verdict.FAULT, f"{address} can't be listed: {error}; {advice}")
        yield from _clock(clock)
        return
    except UnavailableError as error:
        advice = "AWS_ENDPOINT_URL, or AWS_REGION, says where S3 is"
        yield Diagnosis(SUBJECT, Verdict.FAULT, f"{address}: {error}; {advice}")
        return
    if not page:
        yield Diagnosis(
            SUBJECT,
            Verdict.ADVICE,
            f"{address} is reached, and empty; put films there, or name another prefix",
        )
    else:
        yield from _read(client.read_first, page[0].key, address)
    if stores_segments:
        yield _store(client)
    yield from _clock(clock)


def _read(read_first: Callable[[str, int], object], key: str, address: str) -> Iterator[Diagnosis]:
    try:
        read_first(key, 1)
    except NotFoundError:  # the object was removed since it was listed
        pass
    except OSError as error:
        yield Diagnosis(
            SUBJECT, Verdict.FAULT, f"{address} can be listed and not read: {error}; it needs s3:GetObject"
        )
        return
    yield Diagnosis(SUBJECT, Verdict.GOOD, f"{address} can be listed and read")


def _store(client: S3Client) -> Diagnosis:
    """Store an object where encoded segments are, and remove it."""
    from packager.s3.segment_cache import ENCODED_FOLDER

    key = f"{ENCODED_FOLDER}/doctor-{secrets.token_hex(8)}"
    try:
        client.put(key, b"", "application/octet-stream")
        client.delete(key)
    except OSError as error:
        advice = "allow s3:PutObject and s3:DeleteObject there, or set library.encoded_in_s3 = false"
        told = f"{key} can't be stored and removed: {error}; each node encodes its own segments; {advice}"
        return Diagnosis(SUBJECT, Verdict.ADVICE, told)
    return Diagnosis(SUBJECT, Verdict.GOOD, f"encoded segments are stored in {ENCODED_FOLDER}/")


def _clock(clock: Callable[[], float]) -> Iterator[Diagnosis]:
    """Compare the clocks, since signatures have their time in them."""
    told = _date_of_s3(DATE_SECONDS)
    if told is None:
        return
    skew = clock() - told
    if abs(skew) > NOTE_SECONDS:
        verdict = Verdict.FAULT if abs(skew) > SKEW_SECONDS else Verdict.ADVICE
        way = "ahead of" if skew > 0 else "behind"
        advice = "set it, by chrony or systemd-timesyncd; S3 refuses requests of another time"
        yield Diagnosis(SUBJECT, verdict, f"this machine's clock is {abs(skew):.0f} s {way} S3's; {advice}")


def _date_of_s3(seconds: float) -> float | None:
    """Ask S3 for its time, which needs no credentials; None without an answer."""
    url = urlsplit(endpoint_of(os.environ))
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(url.hostname or "", url.port, timeout=seconds)
        try:
            connection.request("HEAD", "/")
            date = connection.getresponse().headers.get("Date", "")
        finally:
            connection.close()
        return parsedate_to_datetime(date).timestamp()
    except (OSError, http.client.HTTPException, ValueError):
        return None
