"""Event channels by gRPC, called by grpcio's own client, and by strangers who know HTTP/2."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, TrailersReceived
from h2.settings import SettingCodes

from origin.events.limits import EventLimits
from origin.grpc.server import GrpcServer
from origin.http.client_limits import ClientLimit
from tests.event_server import LIMIT, NDJSON, PROTECTED, READ_KEY, a_channel, reading, serving
from tests.grpc_events import KEY, LIMITS, PROTOS, channel_to, grpc_running, stub_of, subscription
from tests.waiting import until

ROOT = Path(__file__).parents[3]
WITH_READ_KEY = (("authorization", f"Bearer {READ_KEY}"),)
Code = grpc.StatusCode


def event(data: str = "x", name: str = "", channel: str = "test") -> Any:
    return PROTOS.PublishRequest(channel=channel, event=name, data=data)


async def status_of(call: Any) -> tuple[grpc.StatusCode, str]:
    """Await a call with a reply or a stream of them; return the status with which it ends."""
    try:
        if isinstance(call, grpc.aio.UnaryUnaryCall):
            await call
        else:
            async for _ in call:
                pass
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return Code.OK, ""


async def test_what_is_published_by_grpc_is_read_by_all_and_what_others_publish_by_grpc() -> None:
    async with (
        serving(a_channel(), keys=PROTECTED) as server,
        grpc_running(server) as service,
        stub_of(service) as stub,
    ):
        call = stub.Subscribe(subscription(), metadata=WITH_READ_KEY)
        assert (await stub.Publish(event("one\r\nline", "greeting"), metadata=KEY)).id == "e-1"
        await server.post("two")
        assert [(one.id, one.event, one.data) for one in [await call.read(), await call.read()]] == [
            ("e-1", "greeting", "one\nline"),
            ("e-2", "message", "two"),
        ]
        polled = await server.request("GET", f"/events/test?since=e-0&key={READ_KEY}")
        assert [one["id"] for one in polled.json()] == ["e-1", "e-2"]
        call.cancel()


async def test_a_wrong_call_gets_a_status_and_a_sentence_and_others_go_on() -> None:
    limits = EventLimits(event_bytes=100, publish_rate=1.0, burst_seconds=3.0)
    channels = a_channel(), a_channel("relayed")
    async with (
        serving(*channels, keys=PROTECTED, limits=limits) as server,
        grpc_running(server, replace(LIMITS, message_bytes=1000)) as service,
        stub_of(service) as stub,
    ):
        reader = stub.Subscribe(subscription(), metadata=WITH_READ_KEY)
        await reader.initial_metadata()
        wrong = (("authorization", "Bearer wrong"),)
        long = (*KEY, ("x-long", "x" * 9000))
        gzip = grpc.Compression.Gzip
        parts = [
            (stub.Subscribe(subscription(channel="other"), metadata=KEY), Code.NOT_FOUND, "no such event ch"),
            (stub.Subscribe(subscription(channel="../live"), metadata=KEY), Code.NOT_FOUND, "Not Found"),
            (stub.Subscribe(subscription()), Code.UNAUTHENTICATED, "the channel's read_key is needed"),
            (stub.Subscribe(subscription(), metadata=wrong), Code.UNAUTHENTICATED, "the channel's read_key"),
            (stub.Subscribe(subscription("7"), metadata=KEY), Code.INVALID_ARGUMENT, "since: the id of an "),
            (stub.Subscribe(subscription(), metadata=long), Code.RESOURCE_EXHAUSTED, "metadata"),
            (stub.Publish(event(), metadata=WITH_READ_KEY), Code.UNAUTHENTICATED, "the channel's publish_t"),
            (stub.Publish(event("x", "reset"), metadata=KEY), Code.INVALID_ARGUMENT, "'reset' is the channe"),
            (stub.Publish(event("x", "a\0b"), metadata=KEY), Code.INVALID_ARGUMENT, "control characters"),
            (stub.Publish(event("x" * 101), metadata=KEY), Code.RESOURCE_EXHAUSTED, "more than 100 bytes"),
            (stub.Publish(event("x" * 1000), metadata=KEY), Code.RESOURCE_EXHAUSTED, "larger than max"),
            (
                stub.Publish(event("x" * 99), metadata=KEY, compression=gzip),
                Code.UNIMPLEMENTED,
                "grpc-encoding: identity",
            ),
        ]
        for call, code, sentence in parts:
            told = await status_of(call)
            assert told[0] is code, told
            assert sentence in told[1]
        published = [await status_of(stub.Publish(event(), metadata=KEY)) for _ in range(4)]
        assert published[:3] == [(Code.OK, "")] * 3
        # On a slow machine there is room for one more.
        while published[-1] == (Code.OK, ""):
            published.append(await status_of(stub.Publish(event(), metadata=KEY)))
        assert published[-1] == (Code.RESOURCE_EXHAUSTED, "too many events")
        assert (await reader.read()).id == "e-1"
        reader.cancel()


async def by_http2(
    service: GrpcServer, path: bytes, body: bytes, *fields: tuple[bytes, bytes], window: int = 65535
) -> dict[bytes, bytes]:
    """Make a call with bare HTTP/2 that grpcio's client doesn't make; return the status's fields."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    wire = H2Connection(H2Configuration(header_encoding=None, validate_outbound_headers=False))
    wire.initiate_connection()
    wire.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
    head = {b":method": b"POST", b":scheme": b"http", b":path": path, b":authority": b"a", b"te": b"trailers"}
    wire.send_headers(1, [*head.items(), (b"content-type", b"application/grpc"), *fields])
    wire.send_data(1, body)
    writer.write(wire.data_to_send())
    try:
        async with asyncio.timeout(LIMIT):
            while data := await reader.read(65536):
                for one in wire.receive_data(data):
                    if isinstance(one, ResponseReceived | TrailersReceived):
                        found = dict(one.headers or ())
                        if b"grpc-status" in found:
                            return found
                writer.write(wire.data_to_send())
        raise AssertionError("the connection ended without a status")
    finally:
        writer.transport.abort()


async def test_what_is_no_call_of_ours_ends_alone() -> None:
    subscribe, message = b"/headwater.events.v1.Events/Subscribe", b"\0\0\0\0\6\x0a\4test"
    calls: Iterable[tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...], grpc.StatusCode]] = (
        (b"/\xff\xfe", message, (), Code.UNIMPLEMENTED),
        (b"/headwater.events.v1.Events/Delete", message, (), Code.UNIMPLEMENTED),
        (subscribe, b"\0\0\0\0\2\xff\xff", (), Code.INVALID_ARGUMENT),
        (subscribe, b"\0\0\0\0\3\x0a\1\xff", (), Code.INVALID_ARGUMENT),
        (subscribe, message, ((b"authorization", b"Bearer \xff\xfe"),), Code.UNAUTHENTICATED),
    )
    async with (
        serving(a_channel(), keys=PROTECTED) as server,
        grpc_running(server) as service,
        grpc_running(server, replace(LIMITS, request_seconds=0.2, end_seconds=0.2)) as impatient,
        stub_of(service) as stub,
    ):
        reader = stub.Subscribe(subscription(), metadata=WITH_READ_KEY)
        await reader.initial_metadata()
        for path, body, fields, code in calls:
            assert int((await by_http2(service, path, body, *fields))[b"grpc-status"]) == code.value[0]
        never_sent = await by_http2(impatient, subscribe, b"\0\0\0")
        never_read = await by_http2(impatient, b"/grpc.health.v1.Health/Check", b"\0\0\0\0\0", window=0)
        for late in (never_sent, never_read):
            assert int(late[b"grpc-status"]) == Code.DEADLINE_EXCEEDED.value[0]
        server.channel.publish_text("after all of them")
        assert (await reader.read()).data == "after all of them"
        reader.cancel()


async def test_a_cancelled_call_and_one_past_its_deadline_release_their_readers() -> None:
    async with serving(a_channel()) as server, grpc_running(server) as service, stub_of(service) as stub:
        cancelled = stub.Subscribe(subscription())
        await cancelled.initial_metadata()
        await until(lambda: server.channel.readers == 1)
        cancelled.cancel()
        await until(lambda: server.channel.readers == 0)
        assert (await status_of(stub.Subscribe(subscription(), timeout=0.5)))[0] is Code.DEADLINE_EXCEEDED
        await until(lambda: server.channel.readers == 0)
        await until(lambda: server.channel.cleanups.count == server.channel.entered)


async def test_a_reader_that_doesn_t_read_is_cut_off_and_no_other_waits_for_it() -> None:
    channel = a_channel(queue_bytes=20_000, write_bytes=10_000, history_bytes=200_000)
    async with (
        serving(channel) as server,
        grpc_running(server) as service,
        stub_of(service) as slow_stub,
        reading(NDJSON, server) as (got, _),
    ):
        slow = slow_stub.Subscribe(subscription())
        await slow.initial_metadata()
        await until(lambda: channel.readers == 2)
        while not channel.dropped:
            channel.publish_text("x" * 10_000)
            await until(lambda: len(got) == channel.published)
        # What the client's windows and grpcio's buffer have room for, and no more.
        assert channel.published < 200
        assert await status_of(slow) == (Code.RESOURCE_EXHAUSTED, "the reader is too far behind")
        assert channel.readers == 1


async def test_a_reader_that_reads_misses_nothing_of_more_than_may_wait_for_it() -> None:
    channel = a_channel(queue_bytes=20_000, write_bytes=10_000, history=2000)
    async with serving(channel) as server, grpc_running(server) as service, stub_of(service) as stub:
        # A machine that stands still looks like a reader that doesn't read: then once more.
        for attempt in range(20):
            await until(lambda: channel.readers == 0)
            call, last, got = stub.Subscribe(subscription()), f"{attempt} 199 ", list[Any]()
            await call.initial_metadata()
            await until(lambda: channel.readers == 1)
            channel.publish_text(f"caught up {attempt}")
            # A reader begins with what is kept, of the attempts before, too.
            while (await call.read()).data != f"caught up {attempt}":
                pass
            for number in range(200):
                channel.publish_text(f"{attempt} {number} {'x' * 10_000}")
            with contextlib.suppress(grpc.aio.AioRpcError):
                while not (got and got[-1].data.startswith(last)):
                    got.append(await call.read())
            call.cancel()
            if not any(one.event == "reset" for one in got) and len(got) == 200:
                break
        assert [one.data.split()[1] for one in got] == [str(number) for number in range(200)]


async def test_a_client_has_as_many_readers_and_calls_as_it_may() -> None:
    readers, calls = ClientLimit(1), ClientLimit(3)
    async with (
        serving(a_channel(), client_readers=readers) as server,
        grpc_running(server, client_calls=calls) as service,
        stub_of(service) as stub,
        channel_to(service) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        reader = stub.Subscribe(subscription())
        await reader.initial_metadata()
        refused = await status_of(stub.Subscribe(subscription()))
        assert refused == (Code.RESOURCE_EXHAUSTED, "too many readers of one address")
        watches = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
        for watch in watches:
            await watch.read()
        told = await status_of(stub.Publish(event(), metadata=KEY))
        assert told == (Code.RESOURCE_EXHAUSTED, "too many calls of one address")
        watches[0].cancel()
        for _ in range(1000):
            if (told := await status_of(stub.Publish(event(), metadata=KEY)))[0] is Code.OK:
                break
        assert told[0] is Code.OK
        for call in (reader, watches[1]):
            call.cancel()


async def test_calls_beyond_the_servers_limit_are_refused() -> None:
    async with (
        serving(a_channel()) as server,
        grpc_running(server, replace(LIMITS, connections=1)) as service,
        stub_of(service) as stub,
        stub_of(service) as of_another_connection,
    ):
        reader = stub.Subscribe(subscription())
        await reader.initial_metadata()
        refused = await status_of(stub.Publish(event(), metadata=KEY))
        assert refused == (Code.RESOURCE_EXHAUSTED, "too many calls")
        refused = await status_of(of_another_connection.Publish(event(), metadata=KEY))
        assert refused[0] is Code.UNAVAILABLE
        reader.cancel()


async def test_the_health_is_that_of_the_server() -> None:
    ready = True
    async with (
        serving(a_channel()) as server,
        grpc_running(server, replace(LIMITS, watch_seconds=0.01), is_ready=lambda: ready) as service,
        channel_to(service) as channel,
    ):
        stub, kinds = health_pb2_grpc.HealthStub(channel), health_pb2.HealthCheckResponse
        asked = health_pb2.HealthCheckRequest(service="headwater.events.v1.Events")
        watch = stub.Watch(asked)
        assert (await stub.Check(asked)).status == (await watch.read()).status == kinds.SERVING
        ready = False
        assert (await watch.read()).status == kinds.NOT_SERVING
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == kinds.NOT_SERVING
        unknown = health_pb2.HealthCheckRequest(service="other")
        assert await status_of(stub.Check(unknown)) == (Code.NOT_FOUND, "no such service")
        watch.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_describes_the_services_as_the_file_that_ships_does(
    tmp_path: Path, version: str
) -> None:
    compiled = tmp_path / "events.binpb"
    command = "-m", "grpc_tools.protoc", "-I.", f"--descriptor_set_out={compiled}", "origin/grpc/events.proto"
    done = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT)
    assert await done.wait() == 0
    expected = await asyncio.to_thread(compiled.read_bytes)
    assert expected == await asyncio.to_thread((ROOT / "origin" / "grpc" / "events.binpb").read_bytes)

    async def questions() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol="headwater.events.v1.Events")

    async with (
        serving(a_channel()) as server,
        grpc_running(server) as service,
        channel_to(service) as channel,
    ):
        # Both versions have the same messages.
        reflect = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        services, described = [one async for one in reflect(questions())]
        assert {one.name for one in services.list_services_response.service} == {
            "headwater.events.v1.Events",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        (file,) = described.file_descriptor_response.file_descriptor_proto
        named = descriptor_pb2.FileDescriptorProto.FromString(file).message_type
        assert [one.name for one in named] == [
            one.name for one in descriptor_pb2.FileDescriptorSet.FromString(expected).file[0].message_type
        ]
