"""Objects that are read whole, in ranges where they are longer than a request may be."""

from __future__ import annotations

import obstore
import pytest

from packager.library.local_storage import NotFoundError
from packager.library.storage_interface import FileChangedError
from packager.s3.client import S3Client
from packager.s3.limits import S3Limits
from tests.s3_server import BUCKET, S3Server


@pytest.mark.parametrize("size", [1, 1000, 1001, 3500])
def test_an_object_is_read_whole_and_only_with_the_size_that_was_stored(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    client = S3Client(f"s3://{BUCKET}/whole", S3Limits(request_bytes=1000))
    data = bytes(number % 251 for number in range(size))
    obstore.put(s3_server.store("whole"), "one", data)
    assert client.read_whole("one", size) == data
    for other in (size + 1, size + 1500, size - 1):
        if other:
            with pytest.raises(FileChangedError):
                client.read_whole("one", other)
    with pytest.raises(NotFoundError):
        client.read_whole("none", size)
