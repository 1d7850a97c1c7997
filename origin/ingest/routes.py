"""Publishing to a live channel over HTTP: ``PUT`` or ``POST /live/CHANNEL/ingest`` with an endless body.

As ffmpeg (``-method PUT``), curl (``-T``) and GStreamer's ``souphttpclientsink`` send it. The body is
MPEG-TS, FLV, Matroska or fragmented MP4, which its first bytes tell. Below that address come streams of many
requests, a track or a segment in each, and OBS's questions what it is to encode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.access.authorization import Authorization
from origin.config.options import LiveOptions
from origin.http1.application_exchange import take_slowly
from origin.ingest.admission import IngestAdmission
from origin.ingest.feeding import FeedEnd, Feeding
from origin.ingest.limits import FRAGMENT_SECONDS
from origin.ingest.multitrack_endpoint import MultitrackConfiguration
from origin.ingest.publishing_endpoint import CLOSING, PublishedBody, PublishingEndpoint, refusal
from origin.ingest.segmented_publishing import SegmentedPublishing
from origin.responses.channel_route import CHANNEL
from packager.sources.containers import CONTAINERS
from packager.sources.publication import Publication

STATUS_AT_END = {FeedEnd.SILENT: 408, FeedEnd.UNREADABLE: 415, FeedEnd.DISMISSED: 409}
"""The status with which a stream is answered that was ended from this side."""


def routes(
    admission: IngestAdmission,
    authorization: Authorization,
    channels: Mapping[str, LiveOptions],
    rtmp_port: int,
) -> list[BaseRoute]:
    """Make the routes to which streams are published; they must stand before those of the live media.

    Args:
        authorization: checks the keys of requests.
        channels: the options of all channels, by name, those too that publishers make.
        rtmp_port: where RTMP is published to; 0: nowhere.
    """
    configuration = MultitrackConfiguration(admission, channels, rtmp_port)
    endpoint = HttpPublishing(admission, authorization)
    uploads = SegmentedPublishing(admission, authorization)
    return [
        Route(f"/live/{CHANNEL}/ingest", endpoint, methods=["PUT", "POST"]),
        Route(f"/live/{CHANNEL}/ingest/multitrack", configuration.answer, methods=["POST"]),
        Route(f"/live/{CHANNEL}/ingest/{{name:path}}", uploads, methods=["PUT", "POST", "DELETE"]),
    ]


class HttpPublishing(PublishingEndpoint):
    """The ASGI endpoint of streams that come as the body of one request."""

    async def _handle_body(self, channel: str, request: Request, body: PublishedBody) -> Response:
        # Exempt from the limit for slow bodies: the feeding has its own, for a stream instead of bytes.
        take_slowly(request.scope, math.inf)
        feeding = Feeding(self._silent_seconds)
        publisher = self._publisher_of(request)
        approval = await self._admission.approve(channel, publisher)
        publication = self._admission.begin(channel, publisher, on_end=feeding.dismiss, approval=approval)

        async def read() -> bytes | None:
            data = await body.read()
            if data is None and body.is_whole:
                publication.check_complete()
            return data

        end, reason = await feeding.run(publication, read)
        if not reason:
            # The faults of a stream that was taken all the same.
            told = "".join(f"{fault}\n" for fault in publication.faults)
            return Response(told, headers=CLOSING, media_type="text/plain" if told else None)
        return refusal(STATUS_AT_END[end], reason, self._limits)

    def _silent_seconds(self, publication: Publication) -> float:
        """Return the seconds for which a publisher may send nothing."""
        pump = publication.pump
        has_fragments = pump is not None and CONTAINERS[pump.received_container].has_fragments
        silent = self._limits.silent_seconds
        return max(silent, FRAGMENT_SECONDS) if has_fragments else silent
