"""Who may listen, and how many: listeners' passwords, signed addresses, the limit of all stations."""

from __future__ import annotations

import base64
import hmac

import pytest

from origin.radio.mount import Mount
from origin.radio.options import MountOptions
from tests.patience import bear_silence
from tests.radio_server import FRAME_BYTES, Feed, numbers, one_mount, serving
from tests.waiting import until

PASSWORD = "sésame&?"
LOCKED = MountOptions(listener_password=PASSWORD)
PATH = "/radio/test"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    bear_silence(monkeypatch)


def basic(credentials: str) -> str:
    return f"Authorization: Basic {base64.b64encode(credentials.encode()).decode()}"


def signed(expires: int, path: str = PATH, password: str = PASSWORD) -> str:
    """As README says it: HMAC-SHA256 of the path and the time, in hexadecimal."""
    text = f"{path}?expires={expires}"
    return (
        f"{PATH}?expires={expires}&signature={hmac.digest(password.encode(), text.encode(), 'sha256').hex()}"
    )


LATER = 4_000_000_000
PAST = 1_000_000_000


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (PATH, [basic(f"anybody:{PASSWORD}")]),
        (PATH, [basic(f":{PASSWORD}")]),
        (f"{PATH}?key=s%C3%A9same%26%3F", []),
        (signed(LATER), []),
        (f"{signed(LATER)}&listener=abc", []),
    ],
)
async def test_who_knows_the_password_or_has_a_signed_address_listens(path: str, fields: list[str]) -> None:
    async with one_mount(LOCKED) as (feed, mount, server):
        feed.push(3)
        await feed.settled()
        listener = await server.open(*fields, path=path)
        assert listener.status == 200
        assert numbers(await listener.body(3 * FRAME_BYTES)) == [0, 1, 2]
        assert mount.listeners == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (PATH, []),
        (PATH, [basic("anybody:wrong")]),
        (PATH, [basic(PASSWORD)]),
        (PATH, ["Authorization: Basic %%%"]),
        (PATH, [f"Authorization: Bearer {'x' * 10}"]),
        (f"{PATH}?key=", []),
        (signed(PAST), []),
        (signed(LATER, path="/radio/other"), []),
        (signed(LATER, password="wrong"), []),
        (signed(LATER).replace(str(LATER), str(LATER + 1), 1), []),
        (signed(LATER).replace("expires=", "expires=%2B", 1), []),
        (f"{PATH}?expires={'9' * 40}&signature=00", []),
        (f"{PATH}?expires=%D9%A1&signature={'0' * 64}", []),
    ],
)
async def test_anybody_else_is_asked_for_the_password(path: str, fields: list[str], method: str) -> None:
    async with one_mount(LOCKED) as (_, mount, server):
        refused = await server.open(*fields, path=path, method=method)
        # RFC 9110 §15.5.2: with a challenge
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith("Basic realm=")
        assert refused.headers["cache-control"] == "no-store"
        assert mount.listeners == 0


async def test_beyond_the_limit_of_all_stations_together_listeners_get_503() -> None:
    mounts = {name: Mount(name, Feed()) for name in ("one", "two")}
    async with serving(mounts, max_listeners=2) as server:
        clients = [await server.open(path=f"/radio/{name}") for name in mounts]
        await until(lambda: all(mount.listeners == 1 for mount in mounts.values()))
        assert (await server.open(path="/radio/one")).status == 503
        await clients[1].close()
        await until(lambda: mounts["two"].listeners == 0)
        assert (await server.open(path="/radio/one")).status == 200
