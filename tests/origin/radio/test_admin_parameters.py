"""What is read of a request to the admin addresses, in which character set, and when."""

from __future__ import annotations

import asyncio
import base64
import codecs

import pytest

from origin.radio.admin import MOST_PARAMETERS, read_query
from origin.radio.mounts.mount import Mount
from packager.radio.source_client_station import SourceClientStation
from tests.radio_server import LIMIT, Client, mount_options, serving

PASSWORD = "sesame"
AUTH, OTHER = (
    f"Authorization: Basic {base64.b64encode(f'source:{one}'.encode()).decode()}"
    for one in (PASSWORD, "wrong")
)


async def test_a_form_is_only_read_of_who_has_a_stations_password() -> None:
    """The form names the station, so the password of another one is refused behind the form."""
    form = b"mode=updinfo&mount=/radio/test&song=x"
    mount = Mount("test", SourceClientStation(128), mount_options())
    async with serving({"test": mount}, passwords={"test": PASSWORD}) as server:
        for fields, is_read in (([], False), ([OTHER], False), ([AUTH], True)):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            server.clients.append(Client(reader, writer))
            lines = ["POST /admin/metadata HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(form)}"]
            writer.write("\r\n".join([*lines, *fields, "", ""]).encode())
            async with asyncio.timeout(LIMIT):
                if is_read:
                    writer.write(form)
                # Without a password nothing of the form has been sent when this comes.
                assert (await reader.readline()).split()[1] == (b"400" if is_read else b"401")


async def test_no_request_has_thousands_of_parameters() -> None:
    query = "&".join(f"p{number}=1" for number in range(MOST_PARAMETERS))
    mount = Mount("test", SourceClientStation(128), mount_options())
    async with serving({"test": mount}, passwords={"test": PASSWORD}) as server:
        client = await server.open(
            "Connection: close", AUTH, path=f"/admin/metadata?{query}&mount=/radio/test"
        )
        async with asyncio.timeout(LIMIT):
            assert (client.status, b"Too many parameters" in await client.reader.read()) == (400, True)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("song=%C3%A4", "\u00e4"),
        ("song=%E4", "\u00e4"),
        ("song=%E4&charset=ISO-8859-1", "\u00e4"),
        ("song=%C3%A4&charset=latin1", "\u00c3\u00a4"),
        ("song=%A4&charset=iso-8859-15", "\u20ac"),
        ("song=%C3%A4&charset=nonsense", "\u00e4"),
        ("song=%C3%A4&charset=rot13", "\u00e4"),
        ("song=tda-4a&charset=punycode", "tda-4a"),  # no character encoding, and slow
        ("song=%D7%C9%CE%CF&charset=KOI8-R", "\u0432\u0438\u043d\u043e"),
        ("song=%D7%C9%CE%CF&charset=koi8-u", "\u0432\u0438\u043d\u043e"),
        ("song=a+b%2Bc", "a b+c"),
    ],
)
def test_a_titles_text_is_in_its_charset_or_utf_8_or_latin_1(query: str, expected: str) -> None:
    assert read_query(query.encode())["song"] == expected


@pytest.mark.parametrize(("sent", "expected"), [("ä € ß".encode(), "ä € ß"), (b"\xe4+%C3", "ä Ã")])
def test_a_form_may_have_the_bytes_of_its_text_as_they_are(sent: bytes, expected: str) -> None:
    assert read_query(b"mode=updinfo&song=" + sent)["song"] == expected


def test_python_is_asked_for_no_charset_that_it_does_not_have() -> None:
    """It would keep each such name for ever, and strangers need no password to send one."""
    asked: list[str] = []
    codecs.register(asked.append)
    try:
        for number in range(10):
            assert read_query(b"song=%C3%A4&charset=nonsense-" + str(number).encode())["song"] == "\u00e4"
    finally:
        codecs.unregister(asked.append)
    assert asked == []
