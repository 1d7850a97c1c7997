"""Which addresses need a token, however they are written, and what a handler behind the check answers."""

from __future__ import annotations

import math
import time

import pytest

from origin.access.guarded_handler import GuardedHandler, GuardedRepeat, HandlerGuard
from origin.access.protected_addresses import (
    MISSING,
    NO_CLIPS,
    Grant,
    ProtectedAddresses,
    TokenGuard,
)
from origin.access.token_keys import EXPIRED, NOT_VALID, TokenKeys
from origin.answers.byte_sources import PiecesSource
from origin.answers.heads import CommonLines, RepresentationHead
from origin.answers.reply import Pending, Reply, ReplyReceiver
from origin.answers.request import Request, RequestFields
from origin.http1.fast_path import FastPath
from origin.http1.limits import HttpLimits
from tests.waiting import until

TOKEN_KEYS = TokenKeys(["new:a-secret-of-november", "old:a-secret-of-october"])
KEYS = TOKEN_KEYS.signing
PROTECTED = ProtectedAddresses(
    folders={"private": True, "private/trailers": False, "films/a.mp4": True},
    channels={"demo": True, "free": False, "fm.mp3": True},
    stations={"fm.mp3": True, "fm": False},
)
NOTHING = RequestFields(())


def soon(seconds: float = 3600) -> int:
    return int(time.time() + seconds)


@pytest.mark.parametrize(
    "path",
    [
        "/media/private/film.mp4",
        "/media/private",
        "/vod/private/film.mp4/master.m3u8",
        "/vod/private/film.mp4/thumbnails.vtt",
        "/vod/private/film.mp4/subtitles/en.vtt",
        "/media/PRIVATE/film.mp4",
        "/media/private./film.mp4",
        "/media/Private /film.mp4",
        "/media/private/TRAILERS/a.mp4",
        "/media/private/trailers./a.mp4",
        "/media/open/../private/film.mp4",
        "/media/./private/film.mp4",
        "/media//private/film.mp4",
        "/vod/films/a.mp4/video/0.m4s",
        "/live/demo/master.m3u8",
        "/live/demo",
        "/live/demo/recordings/1/movie.mp4",
        "/live/fm.mp3/master.m3u8",
        "/radio/fm.mp3",
        "/radio/fm.mp3.m3u",
        "/events/radio/fm.mp3",
    ],
)
def test_protected_addresses_need_a_token(path: str) -> None:
    guard = TokenGuard(PROTECTED, TOKEN_KEYS)
    grant = guard.decide("", path)
    assert grant is not None
    assert grant.refusal == MISSING
    wrong = guard.decide("v1.new.1.anna.2.nonsense", path)
    assert wrong is not None
    assert wrong.refusal == NOT_VALID.line


@pytest.mark.parametrize(
    "path",
    [
        "/media/open.mp4",
        "/media/private.mp4",
        "/media/private/trailers/a.mp4",
        "/media/private/trailers/A.MP4",
        "/vod/films/a.mp4x/master.m3u8",
        "/live/free/master.m3u8",
        "/live/demo2/master.m3u8",
        "/radio/fm",
        "/radio/fm.pls",
        "/events/radio/fm",
        "/events/demo",
        "/media/radio/fm.mp3",
        "/api/radio/fm.mp3",
        "/api/library",
        "/",
        "/player/player.js",
    ],
)
def test_other_addresses_need_none(path: str) -> None:
    assert TokenGuard(PROTECTED, TOKEN_KEYS).decide("", path) is None


def test_a_title_and_its_files_are_protected_whichever_of_them_is_named() -> None:
    folders = {"series/one": True, "series/one.240p.mp4": False, "two.720p.mp4": True, "three": False}
    protected = ProtectedAddresses(folders=folders)
    closed = ["series/one", "series/one/x", "series/one.720p.mp4", "series/ONE.1080P.mkv"]
    closed += ["two", "two.720p.mp4", "two.480p.mp4"]
    opened = ["series/one.240p.mp4", "series/one.mp4", "series/one.720p.mp4x", "three", "series"]
    assert [name for name in closed if not protected.has_file(name)] == []
    assert [name for name in opened if protected.has_file(name)] == []
    inverse = ProtectedAddresses(folders={"free": False}, library=True)
    assert not inverse.has_file("free.720p.mp4"), "the exception is for the title with its files"
    assert inverse.has_file("others.720p.mp4")


def test_a_whole_library_is_protected_but_for_its_exceptions() -> None:
    protected = ProtectedAddresses(library=True, folders={"trailers": False})
    assert protected.signed_paths("/media/a.mp4") == ("/media/a.mp4",)
    assert not protected.signed_paths("/media/trailers/a.mp4")
    assert protected.signed_paths("/media/Trailers/a.mp4")


class Counted(dict[str, bool]):
    """Folders that count how often they are looked at."""

    looks = 0

    def get(self, key: str, default: bool | None = None) -> bool | None:  # type: ignore[override]
        self.looks += 1
        return super().get(key, default)


def test_a_path_of_thousands_of_segments_costs_no_more_than_the_deepest_folder() -> None:
    folders = Counted({"a/b/c": True, "d": False})
    protected = ProtectedAddresses(folders=folders)
    assert protected.signed_paths("/media/a/b/c" + "/a" * 4000)
    assert not protected.signed_paths("/media/d" + "/a" * 4000)
    assert folders.looks <= 6


@pytest.mark.parametrize(
    ("signed", "target"),
    [
        ("/live/free", "/live/demo/master.m3u8"),
        ("/live/dem", "/live/demo/master.m3u8"),
        ("/vod/private/a", "/vod/private/a/%2e%2e/b/master.m3u8"),
        ("/vod/private/a", "/vod/private/a%2F..%2Fb/master.m3u8"),
        ("/vod/private/a", "/vod/private/a%5C..%5Cb/master.m3u8"),
        ("/vod/private/a", "/vod/private/%61b/master.m3u8"),
        ("/vod/private/a", "/vod/private/A/master.m3u8"),
        ("/vod/private/a", "/media/private/a"),
        ("/radio/fm", "/radio/fm.mp3"),
        ("/live/fm.mp3", "/radio/fm.mp3"),
    ],
)
def test_no_spelling_leads_out_of_what_is_signed(signed: str, target: str) -> None:
    guard = HandlerGuard(TokenGuard(PROTECTED, TOKEN_KEYS))
    assert guard.guarded(Answering(), KEYS.sign(signed, soon()), target) is None


def test_a_token_admits_to_all_addresses_of_a_station() -> None:
    guard, token = TokenGuard(PROTECTED, TOKEN_KEYS), KEYS.sign("/radio/fm.mp3", soon(), "anna")
    for path in ("/radio/fm.mp3", "/radio/fm.mp3.xspf", "/events/radio/fm.mp3"):
        grant = guard.decide(token, path)
        assert grant is not None
        assert (grant.refusal, grant.label.partition("#")[0]) == ("", "anna")


def test_media_are_answered_a_little_longer_than_playlists() -> None:
    guard, token = TokenGuard(PROTECTED, TOKEN_KEYS, grace_seconds=60), KEYS.sign("/live/demo", soon(-30))
    told = {}
    for name in ("master.m3u8", "manifest.mpd", "720p/media.m3u8", "720p/3.m4s", "720p/init-0.mp4"):
        grant = guard.decide(token, f"/live/demo/{name}")
        assert grant is not None
        told[name] = grant.refusal
    assert told == {
        "master.m3u8": EXPIRED.line,
        "manifest.mpd": EXPIRED.line,
        "720p/media.m3u8": EXPIRED.line,
        "720p/3.m4s": "",
        "720p/init-0.mp4": "",
    }
    later = guard.decide(KEYS.sign("/live/demo", soon(-61)), "/live/demo/720p/3.m4s")
    assert later is not None
    assert later.refusal == EXPIRED.line


def test_clips_need_a_token_that_allows_them() -> None:
    guard, path = TokenGuard(PROTECTED, TOKEN_KEYS), "/vod/private/a/master.m3u8"
    for allows_clips, refusal in ((True, ""), (False, NO_CLIPS)):
        token = KEYS.sign("/vod/private/a", soon(), allows_clips=allows_clips)
        for query in ("start=1&end=2", "end=2", "%73tart=1", "start", "delay=1h", "programme=a"):
            grant = guard.decide(token, path, query)
            assert grant is not None
            assert grant.refusal == refusal


@pytest.mark.parametrize(
    ("path", "is_open"),
    [
        ("/vod/private/film.720p.mp4/master.m3u8", True),
        ("/vod/private/film.720p.mp4/video/0.m4s", True),
        ("/vod/private/film.720p.mp4/subtitles/en.vtt", True),
        ("/vod/private/film.720p.mp4", True),
        ("/vod/private/film.720p.mp4/other.mp4/master.m3u8", False),
        ("/vod/private/film.720p.mp4/other.480p.mp4/video/0.m4s", False),
        ("/vod/private/film.720p.mp4/other/thumbnails/0.jpg", False),
        ("/vod/private/film.720p.mp4/other.mp4", False),
    ],
)
def test_a_titles_token_is_valid_for_its_files_and_not_for_a_folder_that_is_named_like_them(
    path: str, is_open: bool
) -> None:
    guard = TokenGuard(PROTECTED, TOKEN_KEYS)
    grant = guard.decide(KEYS.sign("/vod/private/film", soon()), path)
    assert grant is not None
    assert (grant.refusal == "") == is_open


class Later(Pending):
    """A reply that the test gives."""

    def __init__(self) -> None:
        self.receiver: ReplyReceiver | None = None
        self.is_cancelled = False

    def start(self, receiver: ReplyReceiver) -> None:
        self.receiver = receiver

    def cancel(self) -> None:
        self.is_cancelled = True


class Kept:
    """A representation that is always valid."""

    def __init__(self) -> None:
        self.head = RepresentationHead(4, ((b"cache-control", b"public, max-age=60, s-maxage=9, immutable"),))

    def current(self) -> tuple[RepresentationHead, PiecesSource]:
        return self.head, PiecesSource((b"text",))


class Answering:
    """A handler with one reply for all."""

    def __init__(self, pending: Pending | None = None) -> None:
        self.kept = Kept()
        self.pending = pending

    def handle(self, request: Request) -> Reply | Pending | None:
        del request
        # The type of a repeated source asks for a descriptor, which nobody looks at here.
        return self.pending or Reply(self.kept.head, (b"text",), repeat=self.kept)  # type: ignore[arg-type]

    def absent(self, request: Request) -> Reply:
        del request
        return Reply(self.kept.head)


class Receiver:
    """The exchange of a wire."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.errors: list[BaseException] = []

    def reply(self, reply: Reply) -> None:
        self.replies.append(reply)

    def fail(self, error: BaseException) -> None:
        self.errors.append(error)


REQUEST = Request("GET", b"/live/demo/720p/1.m4s", NOTHING)


def handled(handler: Answering, *, keeps_public: bool = False) -> Reply:
    guard = TokenGuard(PROTECTED, TOKEN_KEYS, keeps_public=keeps_public)
    token = KEYS.sign("/live/demo", soon(), "anna")
    found = HandlerGuard(guard).guarded(handler, token, REQUEST.target.decode())
    assert found is not None
    assert found[1].startswith("anna#")
    reply = found[0].handle(REQUEST)
    assert isinstance(reply, Reply)
    return reply


def waiting(pending: Pending, ends: float) -> Pending:
    handler = GuardedHandler(Answering(pending), Grant("", math.inf, ends), TokenGuard(PROTECTED, TOKEN_KEYS))
    found = handler.handle(REQUEST)
    assert isinstance(found, Pending)
    return found


def test_no_shared_cache_keeps_an_answer_behind_a_token() -> None:
    handler = Answering()
    reply = handled(handler)
    assert dict(reply.head.fields)[b"cache-control"] == b"private, max-age=60, immutable"
    assert reply.head is handler.kept.head.private(), "the head is encoded once for all viewers"
    assert reply.repeat is not None
    repeated = reply.repeat.current()
    assert repeated is not None
    assert b"private" in repeated[0].encode_part(b"0-1", 2, CommonLines(b"", b""))


def test_a_cache_in_front_that_checks_tokens_keeps_one_answer_for_all() -> None:
    handler = Answering()
    assert handled(handler, keeps_public=True).head is handler.kept.head


def test_an_answer_is_given_and_repeated_until_the_token_expires() -> None:
    for seconds, is_valid in ((3600, True), (-1, False)):
        until_then = time.time() + seconds
        handler = GuardedHandler(Answering(), Grant("", until_then), TokenGuard(PROTECTED, TOKEN_KEYS))
        repeated = GuardedRepeat(Kept(), handler)  # type: ignore[arg-type]  # as above
        assert (repeated.current() is not None) is is_valid
        reply = handler.handle(REQUEST)
        assert isinstance(reply, Reply)
        assert reply.head.status == (200 if is_valid else 403)


def test_an_answer_by_a_key_that_was_removed_meanwhile_is_neither_given_nor_repeated() -> None:
    keys = TokenKeys(["old:a-secret-of-october"])
    handler, token = Answering(), keys.signing.sign("/live/demo", soon())
    found = HandlerGuard(TokenGuard(PROTECTED, keys)).guarded(handler, token, REQUEST.target.decode())
    assert found is not None
    reply = found[0].handle(REQUEST)
    assert isinstance(reply, Reply)
    assert reply.repeat is not None
    assert reply.repeat.current() is not None
    keys.replace(["new:a-secret-of-november"], [], [])
    assert found[0].handle(REQUEST) is None, "the application decides, and refuses it"
    assert reply.repeat.current() is None


def test_requests_are_answered_on_the_connection_again_once_keys_have_changed() -> None:
    keys = TokenKeys(["old:a-secret-of-october"])
    token = keys.signing.sign("/live/demo", soon())
    fast_path = FastPath({"live": Answering()}, guard=HandlerGuard(TokenGuard(PROTECTED, keys)))
    head = f"GET /t/{token}/live/demo/720p/1.m4s HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    both = ["new:a-secret-of-november", "old:a-secret-of-october"]
    for signing, is_answered in (([], True), (both, True), (both[:1], False)):
        if signing:
            keys.replace(signing, [], [])
        for _ in range(2):
            assert (fast_path.find(head, HttpLimits()) is not None) is is_answered


async def test_a_request_that_waits_is_refused_at_the_end_of_the_token() -> None:
    later, receiver = Later(), Receiver()
    waiting(later, time.time() + 0.2).start(receiver)
    await until(lambda: receiver.replies, "the refusal")
    assert later.is_cancelled
    assert (receiver.replies[0].head.status, receiver.replies[0].body) == (403, (b"the token has expired\n",))


async def test_a_reply_that_comes_in_time_is_private_and_a_failure_is_passed_on() -> None:
    for give in ("reply", "fail"):
        later, receiver, kept = Later(), Receiver(), Kept()
        waiting(later, time.time() + 3600).start(receiver)
        assert later.receiver is not None
        if give == "reply":
            later.receiver.reply(Reply(kept.head))
            assert receiver.replies[0].head is kept.head.private()
        else:
            later.receiver.fail(RuntimeError())
            assert len(receiver.errors) == 1


async def test_nobody_waits_for_a_client_that_has_gone() -> None:
    later, receiver = Later(), Receiver()
    pending = waiting(later, time.time() + 3600)
    pending.start(receiver)
    pending.cancel()
    assert later.is_cancelled
