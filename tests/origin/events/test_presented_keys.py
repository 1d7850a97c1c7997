"""A request's keys and the channels that it names: one check of all, whose cost is limited."""

from __future__ import annotations

import httpx
import pytest
from starlette.requests import Request

from origin.access.authentication import Authenticator
from origin.access.key_hash import KeyHash
from origin.events.limits import EventLimits
from tests.created_channels import Setting, serving
from tests.event_server import LIMIT


async def test_keys_are_compared_with_all_channels_at_once_and_wrong_ones_end_the_request() -> None:
    """A program that says a wrong key once has said it once, of however many channels it wants to read."""
    checks: list[bool] = []

    async def on_checked(_: Request, failed: bool) -> None:
        checks.append(failed)

    setting = Setting(
        multiplexing=EventLimits(channels_per_reader=32), authenticator=Authenticator(on_checked)
    )
    async with serving(setting=setting) as server:
        made = [await server.made(name=f"f{number}/c") for number in range(8)]
        checks.clear()
        patterns = [f"f{number}/*" for number in range(8)]
        async with httpx.AsyncClient(base_url=server.url, timeout=LIMIT) as client:

            async def status(*keys: str) -> int:
                query = {"channel": patterns, "since": "", "key": list(keys)}
                return (await client.get("/events", params=query)).status_code

            wrong = [f"wrong-key-of-a-stranger-{number}" for number in range(5)]
            assert (await status(*wrong[:4]), checks) == (401, [True])
            assert (await status(*wrong), checks) == (400, [True])
            assert (await status(made[7]["read_token"], *wrong[:3]), checks) == (204, [True, False])


async def test_a_request_has_so_many_comparisons_of_its_keys_with_those_of_channels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[None] = []
    fits = KeyHash.fits

    def note(key_hash: KeyHash, presented: bytes) -> bool:
        compared.append(None)
        return fits(key_hash, presented)

    monkeypatch.setattr(KeyHash, "fits", note)
    setting = Setting(multiplexing=EventLimits(channels_per_reader=32))
    async with serving(EventLimits(created_channels=2000), setting=setting) as server:
        for folder in range(3):
            for number in range(30):
                await server.made(name=f"f{folder}/c{number}")
        for folders, status in ((1, 401), (2, 400), (3, 400)):
            compared.clear()
            channels = "&".join(f"channel=f{number}/*" for number in range(folders))
            keys = "&".join(f"key=wrong-key-of-a-stranger-{number}" for number in range(4))
            answer = await server.request("GET", f"/events?{channels}&{keys}", {"accept": "application/json"})
            assert (answer.status_code, len(compared) <= 256) == (status, True), answer.text
