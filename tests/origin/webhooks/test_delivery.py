"""Deliveries to a webhook: signatures, order, repetition, and what is lost when."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from origin.access.limits import WebhookLimits
from origin.access.webhook import Webhook
from origin.webhooks.delivery import Delivery, DeliveryLimits, Destination, KeptEvents, signature
from origin.webhooks.state_events import SeenState, StateEvent, events_between
from packager.concurrency import background_task
from packager.record_book import RecordBook
from packager.retry_policy import RetryPolicy
from packager.safe_files import DataFolder
from tests.origin.webhooks.receiver import SECRET, Message, receiving
from tests.ports import kept_port
from tests.waiting import until

QUICK = DeliveryLimits(retries=RetryPolicy(0.01, 0.05))
BASE = "https://stream.example"


def event(number: int = 0, subject: str = "live/room") -> StateEvent:
    return StateEvent.now("live.started", subject, {"number": number})


@asynccontextmanager
async def delivering(
    url: str, limits: DeliveryLimits = QUICK, book: RecordBook | None = None
) -> AsyncIterator[Delivery]:
    to = Destination("hook", Webhook(url, WebhookLimits()), SECRET, BASE)
    made = Delivery(to, KeptEvents(book, "one"), limits)
    async with background_task(made.run()):
        yield made


def check_signed(message: Message) -> None:
    fields = message.fields
    signed = f"{fields['webhook-id']}.{fields['webhook-timestamp']}.".encode() + message.body
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert fields["webhook-signature"] == f"v1,{expected}"


def test_a_message_is_signed_as_in_the_example_of_the_standard() -> None:
    signed = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_an_event_comes_signed_and_as_a_cloud_event() -> None:
    with receiving() as receiver:
        async with delivering(receiver.url) as delivery:
            sent = event()
            delivery.put(sent)
            await until(lambda: receiver.messages, "the message")
        (message,) = receiver.messages
    check_signed(message)
    assert message.fields["content-type"] == "application/cloudevents+json"
    assert message.fields["webhook-id"] == sent.id
    found = message.event
    assert found.pop("time").endswith("Z")
    assert found == {
        "specversion": "1.0",
        "id": sent.id,
        "source": "https://stream.example/live/room",
        "type": "live.started",
        "subject": "live/room",
        "datacontenttype": "application/json",
        "data": {"number": 0},
    }


async def test_what_fails_comes_again_and_later_events_of_its_subject_wait() -> None:
    with receiving() as receiver:
        receiver.statuses = [500, 503, 429]
        async with delivering(receiver.url, replace(QUICK, subjects=1)) as delivery:
            for number in range(4):
                delivery.put(event(number))
            delivery.put(event(9, "live/other"))
            await until(lambda: len(receiver.events()) == 5, "all events")
            await until(lambda: not delivery.trouble, "the trouble's end")
    assert [one["data"]["number"] for one in receiver.events("live/room")] == [0, 1, 2, 3]
    first = [one for one in receiver.messages if one.event["data"]["number"] == 0]
    assert len({one.fields["webhook-id"] for one in first}) == 1
    for message in receiver.messages:
        check_signed(message)
    # Another subject waits for nobody.
    taken = [one["data"]["number"] for one in receiver.events()]
    assert taken.index(9) < taken.index(3)


async def test_an_event_that_is_too_old_is_lost_and_the_next_one_comes() -> None:
    with receiving() as receiver:
        receiver.statuses = [500] * 3
        limits = replace(QUICK, seconds=0.0)
        async with delivering(receiver.url, limits) as delivery:
            for number in range(4):
                delivery.put(event(number))
            await until(lambda: receiver.events(), "the one that is taken")
    assert [one["data"]["number"] for one in receiver.events()] == [3]
    assert len(receiver.messages) == 4


async def test_a_server_that_is_gone_gets_nothing_more() -> None:
    with receiving() as receiver:
        receiver.statuses = [410]
        async with delivering(receiver.url) as delivery:
            delivery.put(event(1))
            delivery.put(event(2))
            await until(lambda: "410" in delivery.trouble, "the trouble")
            delivery.put(event(3))
            await asyncio.sleep(0.1)
    assert len(receiver.messages) == 1


async def test_no_more_events_wait_than_may() -> None:
    limits = replace(QUICK, events=10)
    with kept_port() as port:
        async with delivering(f"http://127.0.0.1:{port}/", limits) as delivery:
            for number in range(50):
                delivery.put(event(number, f"live/{number}"))
            assert "10 events wait" in delivery.trouble


async def test_what_could_not_be_sent_is_sent_by_the_next_process_in_its_order(tmp_path: Path) -> None:
    with kept_port() as port:
        book = RecordBook(DataFolder(tmp_path))
        async with delivering(f"http://127.0.0.1:{port}/hook", book=book) as delivery:
            for number in range(3):
                delivery.put(event(number, f"live/{number}"))
            await until(lambda: delivery.trouble, "the trouble")
            kept = KeptEvents(book, "one")
            while len(await kept.read()) < 3:
                await asyncio.sleep(0.02)
        with receiving(port) as receiver:
            async with delivering(receiver.url, book=book):
                await until(lambda: len(receiver.events()) == 3, "the events of before")
                while await kept.read():
                    await asyncio.sleep(0.02)
        assert {one["data"]["number"] for one in receiver.events()} == {0, 1, 2}
        await book.close()


def test_each_change_is_an_event_in_the_order_in_which_it_happens() -> None:
    off, on = SeenState(), SeenState(is_on_air=True, source="butt", title="A - B")

    def kinds(before: SeenState, now: SeenState, subject: str) -> list[str]:
        return [one.type for one in events_between(before, now, subject, "why")]

    assert kinds(off, on, "radio/a") == ["radio.source", "radio.started", "radio.title"]
    assert kinds(on, off, "radio/a") == ["radio.source", "radio.ended"]
    assert kinds(on, on, "radio/a") == []
    assert kinds(on, replace(on, title="C"), "radio/a") == ["radio.title"]
    assert kinds(off, SeenState(is_on_air=True), "live/a") == ["live.started"]
    (ended,) = events_between(SeenState(is_on_air=True), off, "live/a", "why")
    assert (ended.type, ended.data) == ("live.ended", {"reason": "why"})
