"""Answers OBS's requests for a client configuration: ``POST /live/CHANNEL/ingest/multitrack``.

What OBS's user is to see comes with status 200, and a status in the answer: of others OBS shows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from media.errors import MalformedError
from media.rtmp.connection import read_query
from origin.access.authentication import client_address
from origin.config.options import LiveOptions
from origin.http1.application_exchange import wait_while_connected
from origin.ingest.admission import IngestAdmission, RefusedError
from origin.ingest.multitrack_configuration import (
    ChannelWish,
    ObsClient,
    client_configuration,
    read_client,
    refusal_configuration,
)
from origin.ingest.publishing_endpoint import refusal
from origin.responses.request_body import receive_body
from packager.ffmpeg.ladder import rungs
from packager.reader_guard import ReaderGuard


class MultitrackConfiguration:
    """Answers OBS with the tracks to encode for a channel, and the address to publish them.

    Args:
        admission: checks the key in the request before anything is answered.
        channels: the options of all channels, by name, those too that publishers make.
        rtmp_port: where they are published to; 0: nowhere.
    """

    def __init__(
        self, admission: IngestAdmission, channels: Mapping[str, LiveOptions], rtmp_port: int
    ) -> None:
        self._admission = admission
        self._channels = channels
        self._rtmp_port = rtmp_port
        self._limits = admission.limits

    async def answer(self, request: Request) -> Response:
        """Answer a request; it is small, so all of it is read before its key is known."""
        most = self._limits.configuration_bytes
        body = await receive_body(request, most, f"a request has {most} bytes at most")
        try:
            with ReaderGuard("a configuration's request"):
                client = read_client(body, self._limits)
        except MalformedError as error:
            return refusal(400, str(error), self._admission.limits)
        try:
            answer = self._configuration(request, client)
        except RefusedError as error:
            await wait_while_connected(request, error.delay_seconds)
            answer = refusal_configuration(f"{error}.")
        return JSONResponse(answer, headers={"cache-control": "no-store"})

    def _configuration(self, request: Request, client: ObsClient) -> dict[str, Any]:
        """Answer a client's request with its configuration.

        Raises:
            RefusedError: it may not publish.
        """
        channel: str = request.path_params["channel"]
        name, _, query = client.stream_key.partition("?")
        # Its parameters are no more than the request has bytes.
        key = read_query(query, self._limits.configuration_bytes).get("key", "")
        self._admission.find(channel, client_address(request))
        self._admission.check_key(channel, key, client_address(request))
        self._admission.check_room(channel)
        options = self._channels[channel]
        if name != channel:
            return refusal_configuration(f"The stream key of this channel is {channel}?key=KEY.")
        if not self._rtmp_port:
            return refusal_configuration("The server takes no RTMP: server.rtmp_port isn't set.")
        host = request.url.hostname or ""
        server = f"rtmp://{f'[{host}]' if ':' in host else host}:{self._rtmp_port}/live"
        wish = ChannelWish(server, rungs(options.ladder), options.segment_duration)
        return client_configuration(client, wish)
