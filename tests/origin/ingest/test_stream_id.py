"""The stream IDs of SRT publishers."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError, UnsupportedError
from origin.ingest.stream_id import StreamId, read_stream_id


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("publish:studio:of+the:studio", "of+the:studio"),
        ("publish:studio", ""),
        ("studio?key=of+the%20studio", "of+the%20studio"),
        ("studio?a=b&key=sesame&key=other", "sesame"),
        ("studio", ""),
        ("#!::r=studio,m=publish,u=anybody,s=sesame", "sesame"),
        ("#!::s=se=same,r=studio,t=stream,h=host", "se=same"),
        ("#!::r=studio", ""),
        ("#!::r=live/studio,m=publish,s=sesame", "sesame"),
        ("#!::r=/live/studio", ""),
        ("publish:live/studio:sesame", "sesame"),
        ("%23!::r=studio%2Cm=publish,s=sesame", "sesame"),
    ],
)
def test_a_channel_and_a_key_are_read(text: str, key: str) -> None:
    assert read_stream_id(text) == StreamId("studio", key)


@pytest.mark.parametrize(
    "text",
    ["#!::r=studio,m=request,s=a", "#!::r=studio,m=bidirectional", "#!::r=a,t=file", "request:a:b", "read:a"],
)
def test_who_wants_something_else_is_told_so(text: str) -> None:
    with pytest.raises(UnsupportedError):
        read_stream_id(text)


@pytest.mark.parametrize("text", ["", "publish:", "publish::key", "?key=a", "#!::", "#!::m=publish,s=a"])
def test_what_names_no_channel_is_no_stream_id(text: str) -> None:
    with pytest.raises(MalformedError):
        read_stream_id(text)


@given(st.text(max_size=512) | st.text("#!:%23publish,=rsm?key&", max_size=60))
def test_anything_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(MediaError):
        assert read_stream_id(text).channel


def test_a_key_is_not_in_what_a_log_would_show() -> None:
    assert "sesame" not in repr(read_stream_id("publish:studio:sesame"))
