"""Files over HTTP behind caches: nginx, Varnish and Apache Traffic Server in front of a real origin."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cdn.caches import SLICE, Cache, running
from tests.cdn.conftest import EXPIRING_SECONDS, NEW, Origin, Traffic, noise
from tests.conformance.raw import PATIENCE, Answer, Client
from tests.waiting import wait_for

SIZE = 3 * SLICE + 777
"""Four slices, the last of them short."""

CLIENTS = 100
TRIES = 5
"""Files with which it is tried that a cache only revalidates what it has."""

RANGES = (
    ("bytes=0-0", 0, 0),
    ("bytes=0-", 0, SIZE - 1),
    ("bytes=-1", SIZE - 1, SIZE - 1),
    (f"bytes=-{SLICE + 1}", SIZE - SLICE - 1, SIZE - 1),
    (f"bytes=-{SIZE + 1}", 0, SIZE - 1),
    (f"bytes={SLICE - 1}-{SLICE}", SLICE - 1, SLICE),
    (f"bytes=100-{3 * SLICE}", 100, 3 * SLICE),
    (f"bytes={SIZE - 1}-{SIZE + 5}", SIZE - 1, SIZE - 1),
)
"""Range, first and last position of the answer (RFC 9110 §14.1.2)."""


def ask(cache: Cache, target: str, *fields: str, method: str = "GET") -> Answer:
    with Client(cache.address) as client:
        return client.ask(f"/media/{target}", *fields, method=method)


def cost(origin: Origin, before: Traffic, fetches: int) -> Traffic:
    """What the origin was asked for since then, once it has counted as many requests as it should have."""
    wait_for(lambda: (origin.traffic() - before).requests.total() >= fetches, what=f"{fetches} fetches")
    return origin.traffic() - before


def at_once(cache: Cache, target: str, fields: list[tuple[str, ...]]) -> list[Answer]:
    """As many clients as there are sets of fields, all asking at the same time."""
    barrier = threading.Barrier(len(fields))

    def one(mine: tuple[str, ...]) -> Answer:
        with Client(cache.address) as client:
            barrier.wait()
            return client.ask(f"/media/{target}", *mine)

    with ThreadPoolExecutor(len(fields)) as executor:
        return list(executor.map(one, fields))


def test_every_range_of_a_file_has_the_right_bytes(lasting: Cache, lasting_origin: Origin) -> None:
    """Cold and then from the cache; the fields say what RFC 9110 §14.4 and §15.3.7 want."""
    for number, (field, first, last) in enumerate(RANGES):
        name = f"ranges-{lasting.kind}-{number}.mp4"
        film = lasting_origin.publish(name, noise(name, SIZE))
        for _ in ("cold", "warm"):
            answer = ask(lasting, name, f"Range: {field}")
            assert (answer.status, answer["content-range"]) == (206, f"bytes {first}-{last}/{SIZE}"), field
            assert answer.body == film[first : last + 1], field
            assert answer["content-type"] == "video/mp4"


DISGUISES = ("/media//{name}?v=1", "//media/{name}?v=1", "/media/x/../{name}?v=1", "/media/{name}%3Fv=1")


@pytest.mark.parametrize("number", range(len(DISGUISES)))
def test_an_address_that_only_looks_like_a_films_has_no_answer_kept_as_the_films(
    lasting: Cache, lasting_origin: Origin, number: int
) -> None:
    """A cache that puts addresses straight for its keys, and asks for them as they came, would keep a 404."""
    name = f"disguised-{lasting.kind}-{number}.mp4"
    film = lasting_origin.publish(name, noise(name, 1000))
    with Client(lasting.address) as client:
        client.ask(DISGUISES[number].format(name=name))
    assert ask(lasting, f"{name}?v=1").body == film


@pytest.mark.parametrize("target", ["/live/a/ingest", "/%6Cive/a/ingest", "//live/a/ingest"])
@pytest.mark.parametrize("lasting", ["nginx", "varnish"], indirect=True)
def test_nobody_publishes_through_a_cache_by_any_address(lasting: Cache, target: str) -> None:
    with Client(lasting.address) as client:
        assert client.ask(target, "Content-Length: 0", method="PUT").status in (403, 405)


def test_a_whole_file_and_its_head_are_right(lasting: Cache, lasting_origin: Origin) -> None:
    name = f"whole-{lasting.kind}.mp4"
    film = lasting_origin.publish(name, noise(name, SIZE))
    head = ask(lasting, name, method="HEAD")
    assert (head.status, head["content-length"], head.body) == (200, str(SIZE), b"")
    for _ in ("cold", "warm"):
        answer = ask(lasting, name)
        assert (answer.status, answer["content-length"]) == (200, str(SIZE))
        assert answer.body == film
        assert answer["etag"] == head["etag"]


def test_ranges_come_from_the_cache_once_the_file_is_there(lasting: Cache, lasting_origin: Origin) -> None:
    name = f"warm-{lasting.kind}.mp4"
    film = lasting_origin.publish(name, noise(name, SIZE))
    before = lasting_origin.traffic()
    assert ask(lasting, name).body == film
    for field, first, last in RANGES:
        assert ask(lasting, name, f"Range: {field}").body == film[first : last + 1]
    assert_asked_once(lasting, cost(lasting_origin, before, lasting.fetches(SIZE)))


@pytest.mark.clause("RFC 9110 §14.2")
def test_several_ranges_are_answered_by_what_the_cache_can_do(lasting: Cache, lasting_origin: Origin) -> None:
    """It may send the whole, or (§15.3.7) a part of what was asked for; never a 416."""
    name = f"several-{lasting.kind}.mp4"
    film = lasting_origin.publish(name, noise(name, SIZE))
    answer = ask(lasting, name, f"Range: bytes=0-99,{2 * SLICE}-{2 * SLICE + 99}")
    if lasting.kind == "trafficserver":
        assert (answer.status, answer["content-range"]) == (206, f"bytes 0-99/{SIZE}")
        assert answer.body == film[:100]
    else:
        assert (answer.status, answer.body) == (200, film)


def test_a_range_beyond_the_end_is_416(lasting: Cache, lasting_origin: Origin) -> None:
    """With what a client needs to know; Traffic Server's slices leave the unit out of Content-Range."""
    name = f"beyond-{lasting.kind}.mp4"
    lasting_origin.publish(name, noise(name, SIZE))
    assert ask(lasting, name).status == 200
    answer = ask(lasting, name, f"Range: bytes={SIZE}-")
    assert answer.status == 416
    assert answer["content-range"].endswith(f"*/{SIZE}")


def test_a_hundred_clients_of_a_cold_file_cost_one_fetch_per_slice(
    lasting: Cache, lasting_origin: Origin
) -> None:
    name = f"hundred-{lasting.kind}.mp4"
    film = lasting_origin.publish(name, noise(name, SIZE))
    before = lasting_origin.traffic()
    answers = at_once(lasting, name, [()] * CLIENTS)
    assert all((answer.status, answer.body) == (200, film) for answer in answers)
    spent = cost(lasting_origin, before, lasting.fetches(SIZE))
    assert set(spent.requests) == {200 if lasting.kind == "varnish" else 206}
    assert_asked_once(lasting, spent)


def assert_asked_once(cache: Cache, spent: Traffic) -> None:
    """Check that what clients asked for, a hundred of them at once or one again and again, was fetched once.

    Traffic Server fetches a slice twice where it is asked for again in the same moment, or before it is
    written; that happens on a busy machine, with a slice or two.
    """
    again = 2 if cache.kind == "trafficserver" else 0
    fetches = cache.fetches(SIZE)
    assert fetches <= spent.requests.total() <= fetches + again
    assert SIZE <= spent.sent <= SIZE + again * SLICE


def test_a_hundred_clients_of_different_ranges_cost_no_more(lasting: Cache, lasting_origin: Origin) -> None:
    name = f"seeking-{lasting.kind}.mp4"
    film = lasting_origin.publish(name, noise(name, SIZE))
    before = lasting_origin.traffic()
    starts = [number * (SIZE - 1000) // (CLIENTS - 1) for number in range(CLIENTS)]
    answers = at_once(lasting, name, [(f"Range: bytes={start}-{start + 999}",) for start in starts])
    for start, answer in zip(starts, answers, strict=True):
        assert (answer.status, answer.body) == (206, film[start : start + 1000])
    assert_asked_once(lasting, cost(lasting_origin, before, lasting.fetches(SIZE)))


@pytest.mark.clause("RFC 9111 §4.3")
def test_an_expired_file_costs_a_304_and_no_bytes(expiring: Cache, expiring_origin: Origin) -> None:
    """Revalidated by its ETag, once for each object that the cache keeps.

    On a busy machine Traffic Server now and then hasn't kept a slice, and has to fetch that again.
    """
    for number in range(TRIES):
        name = f"expired-{number}-{expiring.kind}.mp4"
        film = expiring_origin.publish(name, noise(name, SIZE))
        before = expiring_origin.traffic()
        assert ask(expiring, name).body == film
        filled = cost(expiring_origin, before, expiring.fetches(SIZE))
        assert filled.sent == SIZE
        wait_for(
            functools.partial(is_revalidated, expiring, expiring_origin, name, film, before),
            what="the revalidation of all that the cache has",
        )
        spent = expiring_origin.traffic() - before
        if spent.sent == SIZE:
            break
    assert spent.sent == SIZE
    assert spent.requests - Counter({304: spent.requests[304]}) == filled.requests


def is_revalidated(cache: Cache, origin: Origin, name: str, film: bytes, before: Traffic) -> bool:
    """Ask a cache for a file; whether it has revalidated each object of it since."""
    assert ask(cache, name).body == film
    return (origin.traffic() - before).requests[304] >= cache.fetches(SIZE)


def test_a_replaced_file_is_never_mixed_with_the_old_one(expiring: Cache, expiring_origin: Origin) -> None:
    """Old, old and cut short, or new (and shorter): until the old one has expired; then new."""
    name = f"replaced-{expiring.kind}.mp4"
    old = expiring_origin.publish(name, noise(f"old {name}", SIZE))
    assert ask(expiring, name, "Range: bytes=0-99").body == old[:100]
    new = expiring_origin.publish(name, noise(f"new {name}", SIZE // 2), NEW)

    def renewed() -> bool:
        answer = ask(expiring, name)
        if answer["etag"].startswith('"6553f2f4-'):  # NEW in hexadecimal
            assert answer.body == new
            return True
        assert answer["content-length"] == str(SIZE)
        assert answer.body == old[: len(answer.body)]
        assert answer.closed == (len(answer.body) < SIZE)
        return False

    wait_for(renewed, what="the new file")
    assert ask(expiring, name, f"Range: bytes={SLICE}-").body == new[SLICE:]


def test_a_file_that_is_replaced_over_and_over_is_never_mixed(
    expiring: Cache, expiring_origin: Origin
) -> None:
    """Clients and a publisher at the same time: each body is of one version from its start."""
    name = f"busy-{expiring.kind}.mp4"
    versions = {
        f'"{NEW + number:x}-{SIZE:x}"': (NEW + number, noise(f"{number} {name}", SIZE)) for number in range(4)
    }
    seen: set[str] = set()
    for number, (modified, film) in enumerate(versions.values()):
        expiring_origin.publish(name, film, modified)
        end = time.monotonic() + (EXPIRING_SECONDS if number % 2 else 0)
        while True:
            for answer in at_once(expiring, name, [()] * 4):
                seen.add(answer["etag"])
                assert answer.status == 200
                assert answer.closed == (len(answer.body) < SIZE)
                assert answer.body == versions[answer["etag"]][1][: len(answer.body)]
            # A cache that is asked seldom, on a slow machine, has the first one for long.
            waits = number == len(versions) - 1 and len(seen) == 1
            if time.monotonic() >= end + (PATIENCE if waits else 0):
                break
    assert len(seen) > 1


@pytest.mark.parametrize("lasting", ["nginx", "trafficserver"], indirect=True)
def test_where_two_versions_meet_the_client_is_cut_short(lasting: Cache, lasting_origin: Origin) -> None:
    """A slice of the old file, fresh for an hour, and the next of the new one: nginx compares their ETags."""
    name = f"cut-{lasting.kind}.mp4"
    old = lasting_origin.publish(name, noise(f"old {name}", SIZE))
    assert ask(lasting, name, "Range: bytes=0-99").body == old[:100]
    new = lasting_origin.publish(name, noise(f"new {name}", SIZE), NEW)
    cut = ask(lasting, name)
    assert (cut.status, cut["content-length"], cut.closed) == (200, str(SIZE), True)
    assert cut.body == old[:SLICE]
    again = ask(lasting, name)
    if lasting.kind == "nginx":
        # For as long as the old slice is fresh: only another address helps.
        assert (again.body, again.closed) == (old[:SLICE], True)
        assert "etag mismatch in slice response" in lasting.log.read_text("utf-8")
    else:
        # --consider-ims: Traffic Server has fetched the first slice anew.
        assert (again.body, again.closed) == (new, False)


def test_a_versioned_address_is_the_new_file_at_once(lasting: Cache, lasting_origin: Origin) -> None:
    name = f"versioned-{lasting.kind}.mp4"
    old = lasting_origin.publish(name, noise(f"old {name}", SIZE))
    assert ask(lasting, f"{name}?v=1", "Range: bytes=0-99").body == old[:100]
    new = lasting_origin.publish(name, noise(f"new {name}", SIZE), NEW)
    answer = ask(lasting, f"{name}?v=2")
    assert (answer.status, answer.body, answer.closed) == (200, new, False)


def test_a_version_is_never_asked_for_too_early(lasting_origin: Origin) -> None:
    """Else a cache that asks at once keeps the old file at the new one's address until that expires."""
    lasting_origin.publish("early.mp4", noise("old", SIZE))
    old = lasting_origin.etag("early.mp4?v=1")
    assert lasting_origin.etag("early.mp4?v=1") == old
    lasting_origin.replace("early.mp4", noise("new", SIZE), NEW)
    assert lasting_origin.etag("early.mp4?v=2") != old


def test_a_file_of_this_very_second_doesnt_spoil_the_cache(lasting: Cache, lasting_origin: Origin) -> None:
    """Its weak ETag becomes a strong one: slices with either must not stay side by side."""
    numbers = itertools.count()

    def young() -> tuple[str, bytes] | None:
        """A file of which a part was asked for in time; None where the machine stood still before that."""
        name = f"fresh-{lasting.kind}-{next(numbers)}.mp4"
        data, began = noise(name, SIZE), time.monotonic()
        film = lasting_origin.publish(name, data, time.time())
        first = ask(lasting, name, "Range: bytes=0-99")
        assert first.body == film[:100]
        if first["etag"].startswith("W/"):
            return name, film
        assert time.monotonic() - began > 1.5
        return None

    found = wait_for(young, what="a weak ETag")
    assert found is not None
    name, film = found

    def settled() -> bool:
        with Client(lasting.address) as client:
            # Past the cache's slices, by an address of its own.
            return client.ask(f"/media/{name}?{time.monotonic()}", "Range: bytes=0-0")["etag"][0] == '"'

    wait_for(settled, what="a strong ETag")

    def whole() -> bool:
        answer = ask(lasting, name)
        assert answer.status == 200
        assert answer.body == film[: len(answer.body)]
        # Traffic Server keeps the slice with the weak tag: it may cut one client short, and mends then.
        assert answer.body == film or lasting.kind == "trafficserver"
        return answer.body == film

    wait_for(whole, what="the whole file")


def test_a_whole_file_is_fetched_behind_a_range_that_went_through(
    lasting_origin: Origin, tmp_path: Path
) -> None:
    """Traffic Server's background_fetch: RFC 9110 §15.3.7 for the first, then all ranges from the cache."""
    data = lasting_origin.publish("background.mp4", noise("background", SIZE))
    with running("background", lasting_origin.server.url, tmp_path) as cache:
        before = lasting_origin.traffic()
        answer = ask(cache, "background.mp4", "Range: bytes=5-9")
        assert (answer.status, answer.body) == (206, data[5:10])
        assert cost(lasting_origin, before, 2).requests == {206: 1, 200: 1}

        def is_kept() -> bool:
            """Whether a range costs the origin nothing any more."""
            known = lasting_origin.traffic()
            return ask(cache, "background.mp4", "Range: bytes=0-0").status == 206 and (
                lasting_origin.traffic() == known
            )

        wait_for(is_kept, what="the whole file to be kept")
        before = lasting_origin.traffic()
        for field, first, last in RANGES:
            assert ask(cache, "background.mp4", f"Range: {field}").body == data[first : last + 1]
        assert lasting_origin.traffic() == before
