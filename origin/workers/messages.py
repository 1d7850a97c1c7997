"""The messages between the control process and a worker."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import Struct

from origin.access.revocations import Revocation
from origin.access.viewer_sessions import SessionRecord
from origin.config.options import Config
from origin.http1.handover_target import RelayedFrom
from origin.server.services.limits import Limits
from packager.encode.renditions import EncodedRenditions
from packager.replication.log_entries import read_message


class TlsStart(Struct, frozen=True):
    """The sockets and certificates with which a worker accepts encrypted connections.

    Attributes:
        listening: descriptors of the listening sockets of TLS.
        certificates: the key, the certificate and those that sign it, of each certificate.
        alternatives: header fields of responses on encrypted connections, which name other wires.
        redirect_port: to which plain HTTP is led; 0: it is answered.
    """

    listening: tuple[int, ...]
    certificates: tuple[bytes, ...]
    alternatives: tuple[tuple[bytes, bytes], ...]
    redirect_port: int


class Start(Struct, frozen=True, tag="start"):
    """The first message to a worker: all that it needs to serve.

    Attributes:
        number: the worker's, from 1.
        config: all options, with the generated secrets.
        files: the configuration's files, which the library must not serve.
        thumbnails: whether there are thumbnails of films.
        renditions: the renditions of films that are encoded on request.
        listening: descriptors of the listening sockets.
        tls: how encrypted connections are accepted; None where none are.
    """

    number: int
    config: Config
    limits: Limits
    files: tuple[str, ...]
    thumbnails: bool
    renditions: EncodedRenditions
    listening: tuple[int, ...]
    tls: TlsStart | None = None


class Listen(Struct, frozen=True, tag="listen"):
    """A message to a worker: accept connections. The control process is ready for handed-over ones."""


class TakeLog(Struct, frozen=True, tag="log"):
    """A message to a worker: write the log as the reloaded configuration says.

    Attributes:
        known: another configuration, with keys that were made meanwhile; the log shows the secrets of
            neither.
    """

    config: Config
    known: Config


class TakeCertificates(Struct, frozen=True, tag="certificates"):
    """A message to a worker: begin new connections with these certificates, which replace the former ones."""

    certificates: tuple[bytes, ...]


class Logs(Struct, frozen=True, tag="logs"):
    """A message to a worker with the descriptor of the socket on which it follows live channels' logs."""


class Sessions(Struct, frozen=True, tag="sessions"):
    """A message to or from a worker with viewers' sessions that have begun, gone on or ended."""

    records: list[SessionRecord]


class Revoked(Struct, frozen=True, tag="revoked"):
    """A message to a worker with revocations of tokens."""

    records: list[Revocation]


class ReportWanted(Struct, frozen=True, tag="report_wanted"):
    """Asks a worker for its metrics."""


class End(Struct, frozen=True, tag="end"):
    """A message to a worker: accept no more connections, and end after the last response.

    Attributes:
        at_once: whether it doesn't wait for responses.
    """

    at_once: bool


class AllClosed(Struct, frozen=True, tag="all_closed"):
    """A message to a worker after its `Closed`: the other processes accept no connections either."""


ToWorker: TypeAlias = (
    Start | Listen | TakeLog | Logs | ReportWanted | End | AllClosed | Sessions | Revoked | TakeCertificates
)


class Ready(Struct, frozen=True, tag="ready"):
    """A message from a worker: connections are accepted."""


class Closed(Struct, frozen=True, tag="closed"):
    """A message from a worker: no more connections are accepted."""


class LogsWanted(Struct, frozen=True, tag="logs_wanted"):
    """Asks for a socket on which live channels' logs come."""


class HandedOver(Struct, frozen=True, tag="handed_over"):
    """A message from a worker with a connection, whose descriptor comes with the message.

    Attributes:
        data: the bytes that were read of the request, and behind it.
        relayed_from: the client's connection, where a single request of it is relayed and it stays.
    """

    data: bytes
    relayed_from: RelayedFrom | None = None


class ReportedMetric(Struct, frozen=True, array_like=True):
    """A metric as Prometheus has them.

    Attributes:
        name: without the suffixes of its samples.
        kind: counter, gauge or histogram.
        samples: name, labels and value of each.
    """

    name: str
    documentation: str
    kind: str
    samples: tuple[tuple[str, dict[str, str], float], ...]


class Report(Struct, frozen=True, tag="report"):
    """A worker's answer to `ReportWanted`."""

    connections: int
    metrics: tuple[ReportedMetric, ...]


FromWorker: TypeAlias = Ready | Closed | LogsWanted | HandedOver | Report | Sessions

encode = msgspec.msgpack.Encoder().encode
_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def read_for_worker(data: bytes) -> ToWorker:
    """Read what the control process sent; MalformedError where it is no message to a worker."""
    return read_message(_TO_WORKER, data, "message to a worker")


def read_from_worker(data: bytes) -> FromWorker:
    """Read what a worker sent; MalformedError where it is no message of one."""
    return read_message(_FROM_WORKER, data, "message of a worker")
