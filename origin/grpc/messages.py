"""The messages of ``events.proto``, from its compiled form in ``events.binpb``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

PACKAGE = "headwater.events.v1"
EVENTS = f"{PACKAGE}.Events"

_COMPILED = descriptor_pb2.FileDescriptorSet.FromString(Path(__file__).with_name("events.binpb").read_bytes())

POOL = descriptor_pool.DescriptorPool()
"""The descriptions of all services, for reflection."""

for _file in (
    *(one.SerializeToString() for one in _COMPILED.file),
    health_pb2.DESCRIPTOR.serialized_pb,
    reflection_pb2.DESCRIPTOR.serialized_pb,
):
    POOL.AddSerializedFile(_file)


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


SubscribeRequest, PublishRequest, PublishReply = map(
    _message, ("SubscribeRequest", "PublishRequest", "PublishReply")
)
