"""What ``headwater doctor`` says of a bucket that can't be served, and what to do."""

from __future__ import annotations

import time

import obstore
import pytest

from origin.cli.diagnosis import Verdict
from origin.cli.doctor_s3 import BucketCheckTimeouts, examine_bucket
from packager.s3.limits import S3Limits
from tests.ports import kept_port
from tests.s3_server import BUCKET, READER, S3Server

QUICK = BucketCheckTimeouts(requests=S3Limits(retries=0, connect_seconds=1.0))


def said(
    server: S3Server, address: str, late: float = 0.0, /, *, stores_segments: bool = False, **changed: str
) -> list[tuple[Verdict, str]]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**server.environment(), **changed}.items():
            patch.setenv(name, value)
        found = examine_bucket(address, QUICK, lambda: time.time() + late, stores_segments=stores_segments)
        return [(one.verdict, one.text) for one in found]


def test_a_bucket_that_is_well_is_said_to_be_listed_and_read(s3_server: S3Server) -> None:
    obstore.put(s3_server.store("doctor"), "film.mp4", b"film")
    address = f"s3://{BUCKET}/doctor"
    assert said(s3_server, address) == [(Verdict.GOOD, f"{address} can be listed and read")]
    ((verdict, text),) = said(s3_server, f"s3://{BUCKET}/nothing-there")
    assert (verdict, "is reached, and empty" in text) == (Verdict.ADVICE, True)


def test_whether_encoded_segments_can_be_stored_is_tried_and_nothing_is_left(s3_server: S3Server) -> None:
    store = s3_server.store("stored")
    obstore.put(store, "film.mp4", b"film")
    address = f"s3://{BUCKET}/stored"
    _, (verdict, text) = said(s3_server, address, stores_segments=True)
    assert (verdict, text) == (Verdict.GOOD, "encoded segments are stored in .encoded/")
    _, (verdict, text) = said(s3_server, address, stores_segments=True, **READER)
    assert verdict is Verdict.ADVICE
    assert "AccessDenied; each node encodes its own segments; allow s3:PutObject" in text
    assert [one["path"] for one in store.list().collect()] == ["film.mp4"]


def test_wrong_credentials_and_buckets_are_faults_that_say_what_to_set(s3_server: S3Server) -> None:
    wrong = "wrong-secret-of-somebody"
    ((verdict, text),) = said(s3_server, f"s3://{BUCKET}/doctor", AWS_SECRET_ACCESS_KEY=wrong)
    assert verdict is Verdict.FAULT
    assert "SignatureDoesNotMatch; AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in text
    assert wrong not in text
    ((verdict, text),) = said(s3_server, "s3://nowhere/doctor")
    assert (verdict, "NoSuchBucket" in text) == (Verdict.FAULT, True)
    ((verdict, text),) = said(s3_server, "s3://x")
    assert (verdict, "library.path" in text) == (Verdict.FAULT, True)


def test_an_s3_that_isnt_there_is_a_fault(s3_server: S3Server) -> None:
    with kept_port() as port:
        ((verdict, text),) = said(
            s3_server, f"s3://{BUCKET}/doctor", AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}"
        )
    assert (verdict, "AWS_ENDPOINT_URL" in text) == (Verdict.FAULT, True)


def test_a_clock_that_is_wrong_is_told(s3_server: S3Server) -> None:
    obstore.put(s3_server.store("doctor"), "film.mp4", b"film")
    for late, expected in ((-3600.0, Verdict.FAULT), (3600.0, Verdict.FAULT), (120.0, Verdict.ADVICE)):
        _, (verdict, text) = said(s3_server, f"s3://{BUCKET}/doctor", late)
        assert verdict is expected
        assert ("ahead of" if late > 0 else "behind") in text
