"""gRPC as a way to the event channels of a running server, by stubs of the file that ships."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from origin.grpc.calls import Calls
from origin.grpc.limits import GrpcLimits
from origin.grpc.server import GrpcServer
from origin.http.client_limits import UNLIMITED, ClientLimit
from origin.http.trusted_proxies import TrustedProxies
from origin.responses.portable_streams import PortableStreams
from origin.tls.certificates import Certificates
from packager.concurrency import background_task
from tests.event_server import LIMIT, TOKEN, Got, Server, Way
from tests.waiting import until

PROTOS, SERVICES = grpc.protos_and_services("origin/grpc/events.proto")
KEY = (("authorization", f"Bearer {TOKEN}"),)
LIMITS = GrpcLimits(request_seconds=LIMIT, end_seconds=LIMIT, handshake_seconds=LIMIT)


@contextlib.asynccontextmanager
async def grpc_running(
    server: Server,
    limits: GrpcLimits = LIMITS,
    client_calls: ClientLimit = UNLIMITED,
    is_ready: Callable[[], bool] = lambda: True,
) -> AsyncIterator[GrpcServer]:
    """Serve the channels of a server by gRPC, too, while the block runs."""
    certificates = None
    if server.certificate is not None:
        chain, key = str(server.certificate.chain), str(server.certificate.key)
        certificates = await asyncio.to_thread(Certificates, chain, key, None, [])
    assert server.app is not None
    calls = Calls(PortableStreams(server.app), TrustedProxies(), client_calls, is_ready, limits)
    service = GrpcServer(calls, "127.0.0.1", 0, certificates, limits)
    async with background_task(service.run()):
        await until(lambda: service.port)
        yield service


def channel_to(service: GrpcServer) -> grpc.aio.Channel:
    """Open a channel of grpcio's, with a connection of its own and a window of 64 KiB."""
    target, options = (
        f"127.0.0.1:{service.port}",
        [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)],
    )
    if service.certificates is None:
        return grpc.aio.insecure_channel(target, options)
    trusted = grpc.ssl_channel_credentials(service.certificates.pem)
    return grpc.aio.secure_channel(target, trusted, options)


@contextlib.asynccontextmanager
async def stub_of(service: GrpcServer) -> AsyncIterator[Any]:
    async with channel_to(service) as channel:
        yield SERVICES.EventsStub(channel)


def subscription(since: str = "", channel: str = "test") -> Any:
    return PROTOS.SubscribeRequest(channel=channel, since=since)


class Grpc(Way):
    name = "grpc"

    async def read(
        self, server: Server, since: str, is_enough: Callable[[list[Got]], bool], got: list[Got]
    ) -> None:
        async with grpc_running(server) as service, stub_of(service) as stub:
            async for event in stub.Subscribe(subscription(since)):
                got.append(Got(event.event, event.data, event.id))
                if is_enough(got):
                    return
