"""``/api/prepared``: the films that are encoded ahead of time, for the administrator alone."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from media.errors import MediaError
from origin.responses.json_response import UNCACHED, as_json
from origin.responses.refusal import plain_refusal
from origin.server.services.services import Services
from packager.encode.preparation import FilmState, Preparation, TooManyPreparedError
from packager.library.local_storage import NotFoundError
from packager.transient_errors import NotReadyError

ADDRESS = "/api/prepared"
RETRY_SECONDS = 5
"""Retry-After where the film or the list can't be used now."""


def routes(services: Services) -> list[BaseRoute]:
    """Make the routes of ``/api/prepared`` and its films."""
    answers = PreparedFilms(services)
    return [
        Route(ADDRESS, answers.list_films),
        Route(ADDRESS + "/{path:path}", answers.answer, methods=["GET", "PUT", "DELETE"]),
    ]


class PreparedFilms:
    """The endpoints of the films that are encoded ahead of time; see `routes`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def list_films(self, request: Request) -> Response:
        """List the prepared films, the oldest entry first, with totals."""
        await self._services.access.require_admin(request)
        preparation = self._services.library.preparation
        states = [] if preparation is None else await preparation.states()
        speed = None if preparation is None else preparation.speed
        return as_json(
            {
                "films": [_describe(state, speed) for state in states],
                "segments": sum(state.segments for state in states),
                "encoded_segments": sum(state.encoded_segments for state in states),
                "bytes": sum(state.nbytes for state in states),
                "speed": speed,
                "seconds_left": _seconds_left(sum(state.seconds for state in states), speed),
            }
        )

    async def answer(self, request: Request) -> Response:
        """Describe a film; PUT has it prepared, DELETE takes it back."""
        await self._services.access.require_admin(request)
        preparation = self._services.library.preparation
        if preparation is None:
            return plain_refusal(409, "films are prepared with server.data and library.encode", UNCACHED)
        try:
            return await self._answer(request, preparation)
        except NotFoundError:
            return plain_refusal(404, headers=UNCACHED)
        except MediaError as error:
            return plain_refusal(422, str(error), UNCACHED)
        except TooManyPreparedError:
            return plain_refusal(409, "as many films are prepared as may be: take one back", UNCACHED)
        except NotReadyError:
            return self._unavailable("another server uses server.data")
        except OSError as error:
            return self._unavailable(error.strerror or str(error))

    async def _answer(self, request: Request, preparation: Preparation) -> Response:
        path = request.path_params["path"]
        if request.method in ("PUT", "DELETE") and self._services.waits_for_data:
            raise NotReadyError
        if request.method == "DELETE":
            await preparation.remove(path)
            return Response(status_code=HTTPStatus.NO_CONTENT, headers=UNCACHED)
        if request.method == "PUT":
            await preparation.add(path)
        return as_json(_describe(await preparation.state(path), preparation.speed))

    @staticmethod
    def _unavailable(reason: str) -> Response:
        return plain_refusal(503, reason, {**UNCACHED, "retry-after": str(RETRY_SECONDS)})


def _describe(film: FilmState, speed: float | None) -> dict[str, object]:
    return {
        "path": film.path,
        "state": film.state or None,
        "reason": film.reason or None,
        "segments": film.segments,
        "encoded_segments": film.encoded_segments,
        "bytes": film.nbytes,
        "speed": speed if film.state == "encoding" else None,
        "seconds_left": _seconds_left(film.seconds, speed) if film.state else None,
    }


def _seconds_left(seconds: float, speed: float | None) -> float | None:
    """Return how long the encoding of so many seconds takes at a speed; None where the speed isn't known."""
    if seconds <= 0:
        return 0.0
    return None if speed is None else seconds / speed
