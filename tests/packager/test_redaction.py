"""No secret is told: of URLs as people write them, of what programs say of them, of headers and settings."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from json import dumps
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packager.redaction import (
    MASK,
    KnownTexts,
    PiecewiseRedactor,
    Redactor,
    redact,
    redacted_url,
    secrets_of,
)
from packager.sources.schemes import without_url_secrets

CANARY = "c4nary-Secret"

URLS = [
    f"rtsp://camera:{CANARY}@10.0.0.5/stream1",
    f"rtsp://camera:{CANARY}/2@10.0.0.5/stream1",
    f"rtsp://camera:12/{CANARY}@10.0.0.5/stream1",
    f"rtsp://camera:1?{CANARY}@10.0.0.5/stream1",
    f"rtsp://camera:#{CANARY}@10.0.0.5/stream1",
    f"rtsp://camera:@{CANARY}@10.0.0.5/stream1",
    f"RTSP://camera:{CANARY}@[fe80::1%25eth0]:554/stream1",
    f"http://{CANARY}{CANARY}@host/live.m3u8",
    f"https://user:{CANARY}%40%2F@host:8443/a/b.m3u8?mode=1",
    f"http://host/live.m3u8?token={CANARY}",
    f"http://host/live.m3u8?a=b&X-Amz-Signature={CANARY}#t=1",
    f"http://host/live.m3u8#key={CANARY}",
    f"http://host:8000/a?mail=x@{CANARY}",
    f"srt://host:9000?passphrase={CANARY}&mode=caller",
    f"srt://host:9000?streamid=publish:cam:{CANARY}",
    f"srt://host:9000?streamid=#!::r=cam,u=me,s={CANARY}",
    f"rtmp://host/app/{CANARY}",
    f"rtmps://user:pass@host:443/app/instance/{CANARY}?x=1",
    f"udp://239.0.0.1:1234?key={CANARY}",
    f"s3://AKIA:{CANARY}@bucket/prefix",
    f"redis://:{CANARY}@127.0.0.1:6379/0",
    f"icecast://source:{CANARY}@host:8000/radio/x.mp3",
]


@pytest.mark.clause("RFC 3986 §3.2.1", "RFC 3986 §7.5")
@pytest.mark.parametrize("url", URLS)
def test_a_url_is_named_without_its_secrets(url: str) -> None:
    """Also where a password has signs in it that should have been encoded."""
    for shown in (redacted_url(url), redacted_url(url, MASK)):
        assert CANARY not in shown
        assert shown.startswith(url.partition("://")[0])
    for text in (
        url,
        f"error in '{url}': it ended",
        f"opening {url}: refused",
        f'"GET {url} HTTP/1.1"',
        f"({url})",
    ):
        assert CANARY not in redact(text)
        assert CANARY not in without_url_secrets(text, url)


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        (f"rtsp://camera:{CANARY}@10.0.0.5/stream1", CANARY),
        (f"rtsp://camera:12/{CANARY}@10.0.0.5/stream1", f"12/{CANARY}"),
        (f"http://{CANARY}{CANARY}@host/live.m3u8", CANARY * 2),
        (f"https://user:{CANARY}%40@host/", f"{CANARY}@"),
        (f"http://host/live.m3u8?token={CANARY}", CANARY),
        (f"http://host/live.m3u8?a=b&X-Amz-Signature={CANARY}#t=1", CANARY),
        (f"srt://host:9000?passphrase={CANARY}&mode=caller", CANARY),
        (f"srt://host:9000?streamid=#!::r=cam,u=me,s={CANARY}", CANARY),
        (f"rtmp://host/app/instance/{CANARY}?x=1", CANARY),
        (f"s3://AKIA:{CANARY}@bucket/prefix", CANARY),
    ],
)
def test_what_is_secret_in_a_url_is_known_where_it_stands_alone(url: str, secret: str) -> None:
    redactor = Redactor.of(secrets_of(url))
    for text in (f"wrong password {secret} of camera", secret, f"x{secret}x"):
        assert CANARY not in redactor(text)
    assert redactor("Connection refused by camera") == "Connection refused by camera"


@pytest.mark.parametrize(
    "url",
    [
        f"https://hooks.example/services/T0/{CANARY}{CANARY}",
        f"https://user:pass@hooks.example:8443/services/T0/{CANARY}{CANARY}?wait=true",
        f"http://hooks.example/hook?{CANARY}{CANARY}",
        f"http://hooks.example/hook?for={CANARY}{CANARY}",
    ],
)
def test_all_behind_the_host_of_a_webhook_may_be_secret(url: str) -> None:
    shown = redacted_url(url, MASK, with_path=False)
    assert CANARY not in shown
    assert "hooks.example" in shown
    redactor = Redactor.of(secrets_of(url, with_path=True))
    for text in (f"POST {url} failed", f"no route {url.partition('T0')[2] or CANARY * 2}", CANARY * 2):
        assert CANARY not in redactor(text)
    said = "the hook of hooks.example and its services"
    assert redactor(said) == said
    assert redacted_url("https://hooks.example", MASK, with_path=False) == "https://hooks.example"
    assert redacted_url("https://hooks.example/", MASK, with_path=False) == "https://hooks.example/"


def test_what_is_no_secret_stays() -> None:
    assert redacted_url("http://user:pass@host:80/path?key=1#f") == "http://host:80/path"
    assert redacted_url("http://user:pass@host:80/path?key=1#f", "***") == "http://***@host:80/path?***"
    for source in ("/films/a.mp4", "testsrc", "folder", "", "rtsp://host:554/a/b", "http://host/@user/x"):
        assert redacted_url(source, MASK) == source
    for text in (
        "Headwater is at http://127.0.0.1:8000/",
        "radio 'x': source_password: only source = 'publish' takes source clients",
        "key frames come every 2 s; the token bucket's limit: 3",
        "Basic authentication and Bearer tokens are taken",
        "[Errno 2] No such file or directory: '/srv/films'",
        "12:30:01 live/demo: 3 of 4",
    ):
        assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "passphrase=@", "/radio/x?key=@", "a=1&token=@&b=2", "X-Amz-Signature=@", 'publish_key = "@"',
        "RadioOptions(source_password='@', x=1)", '{"token": "@"}', "Authorization: Basic @",
        "Authorization: Bearer @", "(b'Authorization', b'@')", "(b'Set-Cookie', b'a=@; Path=/')",
        "Cookie: a=@; b=@", "Bearer @", "admin_token='@'", 'password: "a \\" @"',
    ],
)  # fmt: skip
def test_what_stands_where_secrets_stand_is_taken_out(text: str) -> None:
    assert CANARY not in redact(text.replace("@", CANARY))


@pytest.mark.clause("RFC 3986 §2.1", "RFC 8259 §7", "RFC 7617 §2")
@pytest.mark.parametrize("secret", ["hunter2!", "pä$$wörd", "a b/c?d", 'quo"te\\d', "100%25", "x" * 500])
def test_a_known_secret_is_found_however_it_is_written(secret: str) -> None:
    redactor = Redactor.of([secret])
    basic = b64encode(f"source:{secret}".encode()).decode()
    for form in (
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        dumps(secret),
        repr(secret),
        basic,
    ):
        assert form.strip("'\"") not in redactor(f"said {form} to it")


def test_a_secret_that_is_a_word_is_found_by_itself_and_not_in_other_words() -> None:
    redactor = Redactor.of(["secret", "source", "hackme2"])
    line = "the configuration has secrets: key secret, resource, source=secret, xhackme2y"
    assert redactor(line) == "the configuration has secrets: key ***, resource, ***=***, x***y"
    assert redactor("source connected with hackme2", is_prose=True) == "source connected with ***"


def test_short_secrets_are_not_found_in_other_words() -> None:
    assert Redactor.of(["live", ""])("live channel") == "live channel"


@given(st.lists(st.text("abc", max_size=9)), st.lists(st.text("abc", min_size=1, max_size=5), max_size=4))
def test_secrets_are_taken_out_of_a_text_in_pieces_as_out_of_the_whole(
    pieces: list[str], secrets: list[str]
) -> None:
    redactor = Redactor.of(secrets, shortest=1)
    piecewise = PiecewiseRedactor(redactor)
    result = "".join([*map(piecewise.push, pieces), piecewise.finish()])
    assert result == redactor.without_known("".join(pieces))


@given(st.text(max_size=200))
def test_texts_of_all_kinds_are_taken(text: str) -> None:
    redact(text)
    redacted_url(text)
    list(secrets_of(text))
    Redactor.of([text])(text)


@given(
    st.text("abcXYZ019!$()*+,;=:@/?#%~_-. ", min_size=8, max_size=30).map(lambda text: f"{text}{CANARY}"),
    st.sampled_from(["rtsp", "http", "srt"]),
)
def test_no_password_leaves_a_piece_of_itself_behind(password: str, scheme: str) -> None:
    assert CANARY not in redacted_url(f"{scheme}://user:{password}@host/path")


@pytest.mark.parametrize(
    "piece",
    [
        "key='",
        'key="',
        "a",
        "a://",
        "://",
        "authorization",
        "basic aaaaaaa",
        "key='\\",
        "a.b+c-",
        "key",
        "k=",
        "@",
    ],
)
def test_the_time_grows_with_the_text_alone(piece: str) -> None:
    """Ten times as much takes about ten times as long, not a hundred times."""

    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        taken = []
        for _ in range(3):
            began = time.process_time()
            redact(text)
            taken.append(time.process_time() - began)
        return min(taken)

    assert seconds(200_000) < 40 * seconds(20_000) + 0.05


@given(
    texts=st.sets(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=8),
    text=st.text("abc", max_size=40),
)
def test_known_texts_are_found_as_a_pattern_of_them_all_finds_them(texts: set[str], text: str) -> None:
    pattern = re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))))
    assert list(KnownTexts(texts).spans(text)) == [found.span() for found in pattern.finditer(text)]


def test_a_line_costs_the_same_with_thousands_of_secrets() -> None:
    line = "the server listens address=http://127.0.0.1:8000/ library=/films " * 20

    def seconds(secrets: int) -> float:
        redactor = Redactor.of(f"token-{number}-of-a-channel" for number in range(secrets))
        begin = time.process_time()
        for _ in range(20):
            assert redactor(line) == line
        return time.process_time() - begin

    assert min(seconds(5000) for _ in range(3)) < 4 * min(seconds(5) for _ in range(3))
