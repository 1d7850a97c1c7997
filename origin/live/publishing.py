"""The channel and the date that a request names which publishes something beside media."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction

from starlette.requests import Request

from origin.access.authorization import Action, Authorization, NamedResource, ResourceKind
from origin.responses.refusal import RefusalError
from packager.publish.date_ranges import check_date
from packager.publish.live_stream import LiveStream


class PublishedChannels:
    """The channels on which publishers put more than media, and end and begin events.

    Args:
        streams: the streams of this server's own channels.
        served: the streams that viewers get in a cluster; None without a cluster.
    """

    def __init__(
        self,
        streams: Mapping[str, LiveStream],
        authorization: Authorization,
        served: Mapping[str, LiveStream] | None = None,
    ) -> None:
        self._streams = streams
        self._authorization = authorization
        self._served = streams if served is None else served

    def served(self, stream: LiveStream) -> LiveStream:
        """Return the stream that viewers of a channel get."""
        return self._served.get(stream.name, stream)

    async def authorized(self, request: Request) -> LiveStream:
        """Return the channel of a request.

        Raises:
            RefusalError: there is no such channel, or the client may not publish on it.
        """
        stream = self._streams.get(request.path_params["channel"])
        if stream is None:
            raise RefusalError(404, "Not Found")
        resource = NamedResource(ResourceKind.LIVE, stream.name, request.url.path)
        await self._authorization.authorize(request, Action.PUBLISH, resource)
        return stream


def date_on_air(stream: LiveStream, date: datetime | None) -> Fraction:
    """Return a date that a publisher names, or else that of the newest media.

    Raises:
        RefusalError: nothing is on air.
        ImplausibleDateError: the date can't be meant.
    """
    edge = stream.presentation.live_edge
    if edge is None:
        raise RefusalError(503, "nothing is on air", {"retry-after": "2"})
    return edge if date is None else check_date(date, edge)
