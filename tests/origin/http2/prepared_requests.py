"""Requests with their handler, as tests of what a connection knows need them."""

from __future__ import annotations

from pathlib import Path

from origin.answers.request import Request, RequestFields
from origin.files.handler import FileHandler
from origin.http1.handler_exchange import PreparedRequest
from origin.http1.request_head import RequestLine
from packager.library.local_storage import Library


def prepared(name: str) -> PreparedRequest:
    """Return a request that stands for a name."""
    request = Request("GET", f"/media/{name}".encode(), RequestFields(()))
    return PreparedRequest(
        RequestLine("GET", request.target), "media", FileHandler(Library(Path("/"))), request, 0
    )
