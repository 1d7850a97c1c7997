"""``headwater doctor``: what this machine lacks, or has set badly, for a configuration, with advice.

Nothing is changed: ports are bound and an object in S3 is stored for a moment, and folders only examined.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import http.client
import ipaddress
import json
import os
import resource
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from origin.cli.diagnosis import Diagnosis, Verdict
from origin.cli.doctor_s3 import BucketCheckTimeouts, examine_bucket
from origin.config import stations
from origin.config.errors import CommandError
from origin.config.kept_secrets import ADMIN_TOKEN
from origin.config.load import shows_secrets
from origin.config.options import SELF_SIGNED, Config, size
from origin.config.warnings import unserved
from origin.server.services.grpc_services import require_grpc
from origin.server.services.library_services import S3_SCHEME, shares_segments
from origin.system import privileges
from origin.system.binding import BindError, bind
from origin.system.rlimits import PER_CONNECTION, RESERVED
from origin.tls.certificates import CertificateError, Certificates
from packager.encode.encoder_choice import trials
from packager.encode.encoder_speed import REAL_TIME, largest_in_real_time
from packager.encode.renditions import LARGEST_PICTURE, renditions_of
from packager.encode.segment_encoder import encoders_at_once
from packager.ffmpeg.picture_encoder import PictureEncoder, encoders_with_nodes
from packager.process import sandbox
from packager.process.ffmpeg_discovery import Tools, ToolsError, discover
from packager.process.limits import DEFAULT_TOOLS_LIMITS, ToolsLimits
from packager.sources.schemes import SCHEMES, is_url

TIME_ERROR = 5
"""The answer of adjtimex(2) while nothing synchronizes the clock."""

TIMEX_BYTES = 512
"""More than its structure has on any machine; all zero, it asks and sets nothing."""

FILE_SYSTEM_NEEDS = 1 << 30
"""Free bytes below which a data folder's file system is soon full: some minutes of a few channels."""

RENEWAL_DAYS = 14
"""A certificate that is valid for fewer days should have been renewed."""

KERNEL_PROTOCOLS = Path("/proc/sys/net/ipv4/tcp_available_ulp")
"""Protocols that the kernel can carry out on a TCP socket."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorTimeouts:
    """Timeouts of the checks.

    Attributes:
        answer_seconds: Time for the program at a used port to show whether it is a Headwater.
        answer_bytes: Most bytes of its answer that are read.
        bucket: Timeouts of the checks of a library in S3.
    """

    answer_seconds: float = 5.0
    answer_bytes: int = 1 << 20
    bucket: BucketCheckTimeouts = field(default_factory=BucketCheckTimeouts)
    tools: ToolsLimits = DEFAULT_TOOLS_LIMITS


DEFAULT_LIMITS = DoctorTimeouts()


def examine(
    config: Config,
    file: Path | None = None,
    *,
    own_library: bool = False,
    limits: DoctorTimeouts = DEFAULT_LIMITS,
) -> list[Diagnosis]:
    """Examine all that a server with this configuration needs; takes some seconds at most, and blocks.

    Args:
        file: the configuration's file, if there is one.
        own_library: whether the configuration names a library.
    """
    found = [*_tools(config, limits), *_sandbox(config), *_descriptors(config), *_ports(config, limits)]
    found += [
        *_grpc(config),
        *_certificates(config),
        *_clock(),
        *_library(config, own_library, limits),
        *_data(config),
        *_proxies(config),
        *_secrets(config, file),
        *_cluster(config),
    ]
    found += [Diagnosis("configuration", Verdict.ADVICE, line) for line in unserved(config)]
    return found


def _tools(config: Config, limits: DoctorTimeouts) -> Iterator[Diagnosis]:
    needed = bool(config.live or config.radio)
    try:
        tools = asyncio.run(discover(limits=limits.tools))
    except ToolsError as error:
        without = "" if needed else " (files are served without it, but neither channels nor stations)"
        yield Diagnosis("ffmpeg", Verdict.FAULT if needed else Verdict.ADVICE, f"{error}{without}")
        return
    yield Diagnosis("ffmpeg", Verdict.GOOD, f"{tools.version} at {tools.ffmpeg}")
    yield from _encoders(config, tools, limits)


def _encoders(config: Config, tools: Tools, limits: DoctorTimeouts) -> Iterator[Diagnosis]:
    encoding = any(set(channel.ladder) - {"source"} for channel in config.live)
    plays_folders = any(stations.kind(station) == "folder" for station in config.radio)
    uses = (
        ("libx264", encoding, "live channels"),
        (
            "aac",
            bool(config.live) or any(station.hls for station in config.radio),
            "live channels, HLS of stations",
        ),
        ("libmp3lame", plays_folders, "stations that play folders"),
        ("mjpeg", False, "pictures for the seek bar"),
    )
    lacking = [(name, needed, what) for name, needed, what in uses if name not in tools.encoders]
    for name, needed, what in lacking:
        verdict = Verdict.FAULT if needed else Verdict.ADVICE
        yield Diagnosis("encoders", verdict, f"{name} is missing, for {what}; install a full build of ffmpeg")
    if not lacking:
        yield Diagnosis("encoders", Verdict.GOOD, ", ".join(name for name, _, _ in uses))
    if config.library.encode != "off" and not lacking:
        yield _films(tools)
        yield from _hardware(config, tools, limits)
    for channel in config.live:
        scheme = SCHEMES.get(urlsplit(channel.source).scheme) if is_url(channel.source) else None
        if scheme is not None and scheme.needs not in tools.protocols | tools.demuxers:
            told = f"live {channel.name!r} needs {scheme.needs}, which {tools.ffmpeg} lacks"
            yield Diagnosis("ffmpeg", Verdict.FAULT, f"{told}; install a build that has it")


def _films(tools: Tools) -> Diagnosis:
    """Return what this ffmpeg encodes of films while they are watched."""
    try:
        maps_hdr = renditions_of("auto", tools).maps_hdr
    except ToolsError as error:
        return Diagnosis("films", Verdict.ADVICE, str(error))
    if not maps_hdr:
        told = f"HDR isn't encoded while it is watched: {tools.ffmpeg} lacks the filter zscale or tonemap"
        return Diagnosis("films", Verdict.ADVICE, f"{told}; install a full build of ffmpeg")
    told = f"segments of films are encoded on request, {encoders_at_once()} at a time"
    try:
        height, speed = asyncio.run(largest_in_real_time(tools))
    except ToolsError as error:
        return Diagnosis("films", Verdict.ADVICE, str(error))
    told = f"{told}; this machine encodes {height} lines at {speed:.1f} times real time"
    if speed < REAL_TIME:
        return Diagnosis("films", Verdict.ADVICE, f'{told}; set library.encode = "off"')
    if height < LARGEST_PICTURE:
        told = f"{told}, and is offered no more once the server has measured it, too"
    return Diagnosis("films", Verdict.GOOD, told)


def _hardware(config: Config, tools: Tools, limits: DoctorTimeouts) -> Iterator[Diagnosis]:
    """Return for each encoder of hardware with a device node whether it encodes a trial film."""
    candidates = encoders_with_nodes(Path(limits.tools.device_nodes))

    async def tried() -> list[tuple[PictureEncoder, str]]:
        return [result async for result in trials(tools, candidates)]

    found, wanted = dict[str, str](), config.library.encoder
    for encoder, reason in asyncio.run(tried()) if candidates else ():
        # A name has several nodes or modes: the first one that works counts, or else the first.
        if not reason or encoder.name not in found:
            found[encoder.name] = reason
    for name, reason in found.items():
        subject = f"encoder {name}"
        if reason:
            yield Diagnosis(subject, Verdict.ADVICE, f"it doesn't work here: {reason}; software encodes")
        else:
            yield Diagnosis(subject, Verdict.GOOD, "it encodes a trial film")
    if wanted not in ("auto", "software", *found):
        told = f"{limits.tools.device_nodes} has no such device; software encodes"
        yield Diagnosis(f"encoder {wanted}", Verdict.ADVICE, told)


def _sandbox(config: Config) -> Iterator[Diagnosis]:
    lacking = sandbox.missing()
    if not lacking:
        version = sandbox.landlock_version()
        yield Diagnosis("sandbox of ffmpeg", Verdict.GOOD, f"Landlock {version}, seccomp")
        return
    verdict = Verdict.FAULT if config.server.require_sandbox else Verdict.ADVICE
    advice = "use Linux 5.13 or newer with lsm=landlock, and open no files or streams of strangers until then"
    yield Diagnosis("sandbox of ffmpeg", verdict, f"the kernel lacks {' and '.join(lacking)}; {advice}")


def _descriptors(config: Config) -> Iterator[Diagnosis]:
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = RESERVED + PER_CONNECTION * config.limits.connections
    if allowed == resource.RLIM_INFINITY or allowed >= needed:
        yield Diagnosis("descriptors", Verdict.GOOD, f"{config.limits.connections} connections fit")
        return
    fit = max(1, (allowed - RESERVED) // PER_CONNECTION)
    advice = f"set LimitNOFILE={needed} in the unit (ulimit -Hn {needed}), or limits.connections = {fit}"
    yield Diagnosis("descriptors", Verdict.ADVICE, f"{allowed} allow {fit} connections; {advice}")


def _ports(config: Config, limits: DoctorTimeouts) -> Iterator[Diagnosis]:
    server = config.server
    wanted = [("server.port", server.host, server.port)]
    if server.admin_port:
        wanted.append(("server.admin_port", server.admin_host, server.admin_port))
    if server.rtmp_port:
        wanted.append(("server.rtmp_port", server.host, server.rtmp_port))
    if config.tls.certificate:
        wanted.append(("tls.port", server.host, config.tls.port))
        if config.tls.rtmps_port:
            wanted.append(("tls.rtmps_port", server.host, config.tls.rtmps_port))
    if config.grpc.port:
        wanted.append(("grpc.port", server.host, config.grpc.port))
    for key, host, port in wanted:
        try:
            for sock in bind(host, port, config.limits.unacknowledged_seconds, option=key):
                sock.close()
        except BindError as error:
            if _is_ours(config, limits):
                yield Diagnosis(
                    key, Verdict.GOOD, f"{port} is in use, and a Headwater answers on server.port"
                )
            else:
                yield Diagnosis(key, Verdict.FAULT, str(error))
        else:
            yield Diagnosis(key, Verdict.GOOD, f"{port} is free")
    if server.srt_port:
        yield _datagram_port(config, limits)


def _grpc(config: Config) -> Iterator[Diagnosis]:
    try:
        require_grpc(config)
    except CommandError as error:
        yield Diagnosis("grpc", Verdict.FAULT, str(error))


def _certificates(config: Config) -> Iterator[Diagnosis]:
    tls = config.tls
    if tls.certificate:
        offered = "offers to do it, which isn't used" if _kernel_has_tls() else "offers no TLS"
        yield Diagnosis("tls", Verdict.GOOD, f"the server encrypts by itself; the kernel {offered}")
    if not tls.certificate or tls.certificate == SELF_SIGNED:
        return
    try:
        certificates = Certificates(tls.certificate, tls.key, None, [])
    except CertificateError as error:
        yield Diagnosis("tls.certificate", Verdict.FAULT, str(error))
        return
    days = (certificates.ends - datetime.now(UTC)).days
    verdict = Verdict.GOOD if days >= RENEWAL_DAYS else Verdict.ADVICE if days >= 0 else Verdict.FAULT
    advice = "" if verdict is Verdict.GOOD else ": renew it"
    yield Diagnosis("tls.certificate", verdict, f"the first one to end is valid for {days} days{advice}")


def _kernel_has_tls() -> bool:
    """Return whether the kernel can encrypt what is sent on a socket (TLS_TX of Linux)."""
    try:
        return "tls" in KERNEL_PROTOCOLS.read_text().split()
    except OSError:
        return False


def _datagram_port(config: Config, limits: DoctorTimeouts) -> Diagnosis:
    key, host, port = "server.srt_port", config.server.host, config.server.srt_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, port))
    except OSError as error:
        if _is_ours(config, limits):
            return Diagnosis(key, Verdict.GOOD, f"{port} is in use, and a Headwater answers on server.port")
        return Diagnosis(
            key, Verdict.FAULT, f"{host}:{port}: {error.strerror}; stop what uses it, or choose another"
        )
    return Diagnosis(key, Verdict.GOOD, f"{port} is free")


def _is_ours(config: Config, limits: DoctorTimeouts) -> bool:
    """Return whether a server like this one answers where this one would."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.server.host, config.server.host)  # noqa: S104  # asked
    connection = http.client.HTTPConnection(host, config.server.port, timeout=limits.answer_seconds)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        connection.request("GET", "/health", headers={"host": "localhost"})
        told = json.loads(connection.getresponse().read(limits.answer_bytes))
        return isinstance(told, dict) and {"live", "ready"} <= told.keys()
    return False


def _clock() -> Iterator[Diagnosis]:
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    except (OSError, AttributeError):
        state = -1
    if state < 0:
        yield Diagnosis(
            "clock", Verdict.ADVICE, "this system doesn't tell whether anything sets it; look at it"
        )
    elif state == TIME_ERROR:
        advice = "start chrony or systemd-timesyncd; players reckon dates and segment numbers by it"
        yield Diagnosis("clock", Verdict.ADVICE, f"nothing keeps it right; {advice}")
    else:
        yield Diagnosis("clock", Verdict.GOOD, "it is set by another one")


def _library(config: Config, named: bool, limits: DoctorTimeouts) -> Iterator[Diagnosis]:
    if config.library.path.startswith(S3_SCHEME):
        shares = shares_segments(config.library)
        yield from examine_bucket(config.library.path, limits.bucket, stores_segments=shares)
        return
    folder = Path(config.library.path).expanduser()
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except OSError as error:
        needed = named or not (config.live or config.radio or config.events)
        advice = "name a folder that this user may read in library.path"
        verdict = Verdict.FAULT if needed else Verdict.ADVICE
        yield Diagnosis("library", verdict, f"{folder}: {error.strerror}; {advice}")
    else:
        yield Diagnosis("library", Verdict.GOOD, f"{folder} can be read")


def _data(config: Config) -> Iterator[Diagnosis]:
    if not config.server.data:
        in_memory = not config.server.dvr_path
        keeps = any(channel.event or (in_memory and channel.dvr != "0") for channel in config.live)
        if keeps or (in_memory and any(stations.has_dvr(one, config) for one in config.radio)):
            told = "without server.data, DVR and recordings are only in memory, and gone with a restart"
            yield Diagnosis("data folder", Verdict.ADVICE, f"{told}; name a folder")
        return
    folder = Path(config.server.data).expanduser()
    # Not of `Path`, which raises where a folder above may not be searched.
    there = next(one for one in (folder, *folder.absolute().parents) if os.path.exists(one))  # noqa: PTH110
    if not os.access(there, os.W_OK | os.X_OK) or not there.is_dir():
        advice = "give it to the user that the server runs as"
        yield Diagnosis("data folder", Verdict.FAULT, f"{folder} can't be written; {advice}")
        return
    free = shutil.disk_usage(there).free
    sizes = [text for one in config.live for text in (one.dvr_size, one.recordings_size)]
    sizes += [text for one in config.radio for text in (one.dvr_size, one.recordings_size)]
    wanted = sum(size(one) for one in sizes if one is not None)
    needed = max(wanted, FILE_SYSTEM_NEEDS)
    told = f"{folder} has {free / 1e9:.1f} GB free"
    if free < needed:
        advice = f"dvr_size and recordings_size may take {wanted / 1e9:.1f} GB: lower them, or make room"
        yield Diagnosis("data folder", Verdict.ADVICE, f"{told}; {advice}")
    else:
        yield Diagnosis("data folder", Verdict.GOOD, told)


def _proxies(config: Config) -> Iterator[Diagnosis]:
    server = config.server
    networks = [ipaddress.ip_network(one, strict=False) for one in server.trusted_proxies]
    everybody = [str(one) for one in networks if one.prefixlen == 0]
    if everybody:
        told = f"{', '.join(everybody)} believes everybody's X-Forwarded-For"
        advice = "name the proxies' own addresses in server.trusted_proxies"
        yield Diagnosis("proxies", Verdict.FAULT, f"{told}; {advice}")
    elif networks:
        yield Diagnosis("proxies", Verdict.GOOD, f"{', '.join(map(str, networks))} may name their clients")
    else:
        told = "none is trusted, so that all clients of a proxy count as one"
        advice = "where one is in front, name its address in server.trusted_proxies"
        yield Diagnosis("proxies", Verdict.GOOD, f"{told}; {advice}")
    if server.host in LOOPBACK and networks and not everybody and not server.names:
        advice = "name it in server.names, else lists and /health are refused under it"
        yield Diagnosis("proxies", Verdict.ADVICE, f"clients come by a name that isn't known here; {advice}")
    if server.host not in LOOPBACK and not server.protected:
        told = f"{server.host} is reached by other machines, which may read lists, /health and /metrics"
        yield Diagnosis(
            "access", Verdict.ADVICE, f'{told}; set server.protected = ["api", "health", "metrics"]'
        )


def _cluster(config: Config) -> Iterator[Diagnosis]:
    """Examine what the nodes of a cluster have in common: Redis, and the administrator's token."""
    if not config.cluster.url:
        return
    from packager.cluster.connection import RedisUnavailableError
    from packager.cluster.shared_secret import shared_secret

    try:
        token = asyncio.run(shared_secret(config.cluster.url, ADMIN_TOKEN))
    except RedisUnavailableError as error:
        yield Diagnosis(
            "cluster.url", Verdict.FAULT, f"Redis can't be used: {error}; start it, or correct the URL"
        )
        return
    yield Diagnosis("cluster.url", Verdict.GOOD, "Redis answers")
    own = config.server.admin_token
    if own and token and own != token:
        told = "nodes that configure none have another one"
        yield Diagnosis("server.admin_token", Verdict.FAULT, f"{told}; configure this one at all nodes")
    elif own:
        yield Diagnosis("server.admin_token", Verdict.GOOD, "configured; all nodes need the same")
    else:
        told = (
            "nodes share a made one over Redis" if token else "the first node that starts makes one for all"
        )
        yield Diagnosis("server.admin_token", Verdict.ADVICE, f"{told}; configure one at all nodes")


def _secrets(config: Config, file: Path | None) -> Iterator[Diagnosis]:
    if privileges.is_root() and not config.server.user:
        yield Diagnosis("user", Verdict.ADVICE, "this is root; name a user in server.user, or in the unit")
    if file is not None and shows_secrets(file):
        told = f"{file} has secrets that everybody on this machine can read"
        yield Diagnosis("configuration", Verdict.ADVICE, f"{told}; chmod 600 {file}")
