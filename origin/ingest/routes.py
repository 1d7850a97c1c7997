"""Publishing to a live channel over HTTP: ``PUT`` or ``POST /live/CHANNEL/ingest`` with an endless body.

As ffmpeg (``-method PUT``), curl (``-T``) and GStreamer's ``souphttpclientsink`` send it. The body is
MPEG-TS, FLV, Matroska or fragmented MP4, which its first bytes tell. Below that address come streams of many
requests, a track or a segment in each.
"""

from __future__ import annotations

import asyncio
import math

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from media.errors import MediaError
from origin.access.credentials import UnauthorizedError, client_address, unauthorized
from origin.http1.exchange import take_slowly
from origin.ingest.admission import IngestAdmission, RefusedError
from origin.ingest.refusals import CLOSING, STATUS, Body, refusal, send_in_stream
from origin.ingest.segmented_publishing import SegmentedPublishing
from origin.live.authorization import Publishers
from packager.sources.published import Publication, PublicationEndedError, Publisher


def routes(admission: IngestAdmission, publishers: Publishers) -> list[BaseRoute]:
    """Make the route to which streams are published; it must stand before those of the live media.

    Args:
        admission: lets publishers in.
        publishers: checks the keys of requests.
    """
    endpoint = HttpPublishing(admission, publishers)
    uploads = SegmentedPublishing(admission, publishers)
    return [
        Route("/live/{channel}/ingest", endpoint, methods=["PUT", "POST"]),
        Route("/live/{channel}/ingest/{name:path}", uploads, methods=["PUT", "POST", "DELETE"]),
    ]


class HttpPublishing:
    """The ASGI endpoint of publishers.

    Args:
        admission: lets them in.
        publishers: checks the keys of requests.
    """

    def __init__(self, admission: IngestAdmission, publishers: Publishers) -> None:
        self._admission = admission
        self._publishers = publishers
        self._limits = admission.limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one publisher's stream to its end, or refuse it before its body is read."""
        body = Body(receive)
        answer = await self._answer(Request(scope), body)
        await send_in_stream(answer, scope, body, send, self._limits)

    async def _answer(self, request: Request, receive: Receive) -> Response:
        channel: str = request.path_params["channel"]
        try:
            self._admission.find(channel)
            await self._publishers.authorize(request, channel)
            status, reason = await self._carry(channel, request, receive)
        except RefusedError as error:
            status, reason = STATUS[error.reason], str(error)
        except UnauthorizedError as error:
            return unauthorized(str(error), CLOSING)
        if not reason:
            return Response(headers=CLOSING)
        return refusal(status, reason, self._limits)

    async def _carry(self, channel: str, request: Request, receive: Receive) -> tuple[int, str]:
        """Carry a stream until the publisher ends it; return the status, and why it was ended from here.

        Raises:
            RefusedError: there is no room for it.
        """
        # Exempt from the limit for slow bodies: _feed has its own, for a stream instead of bytes.
        take_slowly(request.scope, math.inf)
        agent = request.headers.get("user-agent", "")[: self._limits.agent_chars]
        status, reason = 200, ""
        limit = asyncio.timeout(None)

        def dismiss(_reason: str) -> None:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())

        publisher = Publisher("http", client_address(request), agent)
        approval = await self._admission.approve(channel, publisher)
        publication = self._admission.begin(channel, publisher, on_end=dismiss, approval=approval)
        try:
            async with limit:
                await self._feed(publication, receive, limit)
        except TimeoutError:
            status, reason = 408, f"nothing of a stream came for {self._patience(publication):g} s"
        except MediaError as error:
            status, reason = 415, f"not a stream that can be published: {error}"
        except PublicationEndedError:
            pass
        finally:
            publication.end(reason)
        return (409, publication.end_reason) if publication.end_reason != reason else (status, reason)

    def _patience(self, publication: Publication) -> float:
        """Return the seconds for which a publisher may send nothing."""
        is_fragmented = publication.pump is not None and publication.pump.container in ("mp4", "matroska")
        silent = self._limits.silent_seconds
        return max(silent, self._limits.fragment_seconds) if is_fragmented else silent

    async def _feed(self, publication: Publication, receive: Receive, limit: asyncio.Timeout) -> None:
        """Receive the body while a stream comes: single bytes now and then are none.

        Raises:
            TimeoutError: the publisher is silent, or the publication was ended from this side.
            MediaError: the body isn't a stream that can be published.
            PublicationEndedError: as TimeoutError's second case.
        """
        loop = asyncio.get_running_loop()
        received, heard = 0, loop.time()
        while True:
            limit.reschedule(heard + self._patience(publication))
            message = await receive()
            # Time for which it is made to wait doesn't count as its silence.
            limit.reschedule(None)
            await publication.receive(message.get("body", b""))
            if message["type"] == "http.disconnect":
                return
            if not message.get("more_body", False):
                publication.check_complete()
                return
            if publication.received > received:
                received, heard = publication.received, loop.time()
