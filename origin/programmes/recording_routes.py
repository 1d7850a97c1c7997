"""``POST /live/NAME/recordings`` keeps a span, ``DELETE /live/NAME/recordings/ID`` removes a recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from origin.access.policy import AccessPolicy
from origin.programmes.bodies import read_span
from origin.recordings.handler import describe
from origin.responses.channel_route import CHANNEL
from origin.responses.json_response import as_json
from origin.responses.refusal import STORAGE_RETRY, RefusalError
from origin.responses.request_body import receive_body, require_type
from packager.live.channel import Channel
from packager.recordings.kept_spans import KeptSpan
from packager.recordings.span_keeper import NoRoomError, NothingKeptError, SpanKeeper

if TYPE_CHECKING:
    from packager.recordings.disk_recordings import Recordings
    from packager.recordings.staged_recordings import StagedRecordings

MAX_BODY_BYTES = 16 << 10

NOT_RECORDED = "only a channel with server.data and a DVR has recordings"


class Recorder(Protocol):
    """A channel or station whose spans may be kept."""

    @property
    def records(self) -> bool:
        """Whether this server ever keeps any."""

    @property
    def span_keeper(self) -> SpanKeeper | None:
        """The keeper of its spans; None while another server keeps them."""

    @property
    def recordings(self) -> Recordings | StagedRecordings | None:
        """The recordings that were made; None where none ever are."""


FindRecorder = Callable[[str], Recorder | None]


def routes(recorder_of: FindRecorder, access: AccessPolicy) -> list[BaseRoute]:
    """Make the routes.

    Args:
        recorder_of: returns a channel or station by its name; None where there is none.
        access: admits the administrator, who alone keeps spans and removes recordings.
    """
    endpoint = RecordingsEndpoint(recorder_of, access)
    return [
        Route(f"/live/{CHANNEL}/recordings", endpoint.keep, methods=["POST"]),
        Route(f"/live/{CHANNEL}/recordings/{{id}}", endpoint.remove, methods=["DELETE"]),
    ]


def is_kept_here(channels: Mapping[str, Channel], channel: str, name: str) -> bool:
    """Return whether this machine's disk has a recording of the name, or a span that isn't one yet."""
    made = channels.get(channel)
    if made is None or made.span_keeper is None:
        return False
    recordings = made.recordings
    is_recording = recordings is not None and recordings.get(name) is not None
    return is_recording or any(one.id == name for one in made.span_keeper.waiting)


class RecordingsEndpoint:
    """Answers requests that keep spans and remove recordings."""

    def __init__(self, recorder_of: FindRecorder, access: AccessPolicy) -> None:
        self._recorder_of = recorder_of
        self._access = access

    async def keep(self, request: Request) -> Response:
        """Keep a span of a channel, before or after it comes."""
        await self._access.require_admin(request)
        keeper, _ = self._keeper(request)
        require_type(request, "application/json")
        start_ms, end_ms, title = read_span(await receive_body(request, MAX_BODY_BYTES))
        try:
            kept = await keeper.keep(start_ms, end_ms, title)
        except NothingKeptError:
            raise RefusalError(404, "nothing of this time is kept") from None
        except NoRoomError as error:
            raise RefusalError(507, str(error)) from error
        except OSError as error:
            reason = f"the span can't be kept: {error.strerror or error}"
            raise RefusalError(503, reason, STORAGE_RETRY) from error
        if isinstance(kept, KeptSpan):
            # RFC 9110 §15.3.3: the recording is made once all of the span has come.
            return as_json({"state": "waiting", "span": kept.id, "recording": None}, 202)
        recording = describe(request.path_params["channel"], kept)
        return as_json({"state": "recorded", "recording": recording}, 201)

    async def remove(self, request: Request) -> Response:
        """Remove a recording, or forget a span that isn't one yet."""
        await self._access.require_admin(request)
        keeper, recordings = self._keeper(request)
        name = request.path_params["id"]
        try:
            is_removed = recordings is not None and await recordings.remove(name)
            is_removed = is_removed or await keeper.forget(name)
        except OSError as error:
            reason = f"the span can't be removed: {error.strerror or error}"
            raise RefusalError(503, reason, STORAGE_RETRY) from error
        if not is_removed:
            raise RefusalError(404, "Not Found")
        return Response(status_code=204)

    def _keeper(self, request: Request) -> tuple[SpanKeeper, Recordings | StagedRecordings | None]:
        recorder = self._recorder_of(request.path_params["channel"])
        if recorder is None:
            raise RefusalError(404, "Not Found")
        if not recorder.records:
            raise RefusalError(501, NOT_RECORDED)
        if recorder.span_keeper is None:
            raise RefusalError(503, "this node doesn't keep spans of the station yet", {"retry-after": "1"})
        return recorder.span_keeper, recorder.recordings
