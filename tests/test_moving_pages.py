"""The pages for those who come from other servers name every key of these, and keys that there are here."""

from __future__ import annotations

import re
import tomllib
import typing
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

import msgspec
import pytest

from origin.config.load import validate
from origin.config.options import Config

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {"from-icecast.md": 60, "from-mediamtx.md": 100, "from-nginx-rtmp.md": 100}
"""The pages, and how many of the other server's keys each names at least."""

EXAMPLE = Path("/etc/icecast2/icecast.xml")
MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
CODE = re.compile(r"`([^`]+)`")

MEDIAMTX = re.findall(
    r"\w+",
    """
    logLevel logDestinations logStructured logFile sysLogPrefix dumpPackets readTimeout writeTimeout
    writeQueueSize udpMaxPayloadSize udpReadBufferSize runOnConnect runOnConnectRestart runOnDisconnect
    authMethod authInternalUsers authHTTPAddress authHTTPFingerprint authHTTPExclude authJWTJWKS
    authJWTJWKSFingerprint authJWTClaimKey authJWTExclude authJWTIssuer authJWTAudience api apiAddress
    apiEncryption apiServerKey apiServerCert apiAllowOrigins apiTrustedProxies metrics metricsAddress
    pprof pprofAddress playback playbackAddress rtsp rtspTransports rtspEncryption rtspAddress
    rtspsAddress rtpAddress rtcpAddress multicastIPRange multicastRTPPort srtpAddress srtcpAddress
    multicastSRTPPort rtspAuthMethods rtmp rtmpEncryption rtmpAddress rtmpsAddress rtmpServerKey hls
    hlsAddress hlsAlwaysRemux hlsVariant hlsSegmentCount hlsSegmentDuration hlsPartDuration
    hlsSegmentMaxSize hlsDirectory hlsMuxerCloseAfter hlsCDNSecret webrtc webrtcAddress
    webrtcLocalUDPAddress webrtcLocalTCPAddress webrtcIPsFromInterfaces webrtcIPsFromInterfacesList
    webrtcAdditionalHosts webrtcICEServers2 webrtcSTUNGatherTimeout webrtcHandshakeTimeout
    webrtcTrackGatherTimeout srt srtAddress moq moqHTTP2Address moqHTTP3Address moqQUICAddress
    pathDefaults paths source sourceFingerprint sourceOnDemand sourceOnDemandStartTimeout
    sourceOnDemandCloseAfter maxReaders srtReadPassphrase useAbsoluteTimestamp alwaysAvailable
    alwaysAvailableTracks alwaysAvailableFile forward record recordPath recordFormat recordPartDuration
    recordMaxPartSize recordSegmentDuration recordDeleteAfter overridePublisher srtPublishPassphrase
    rtspDemuxMpegts rtspTransport rtspAnyPort rtspRangeType rtspRangeStart rtspScale
    rtspUDPSourcePortRange rtpSDP moqTransport whepBearerToken whepHandshakeTimeout sourceRedirect
    rpiCameraCamID runOnInit runOnInitRestart runOnDemand runOnDemandRestart runOnDemandStartTimeout
    runOnDemandCloseAfter runOnUnDemand runOnAvailable runOnAvailableRestart runOnUnavailable runOnOnline
    runOnOnlineRestart runOnOffline runOnRead runOnReadRestart runOnUnread runOnRecordSegmentCreate
    runOnRecordSegmentComplete
    """,
)
"""The keys of mediamtx.yml (MediaMTX, August 2026); those that are alike but for their beginning once."""


def rows(page: str) -> list[tuple[list[str], list[str]]]:
    """Read the table: the other server's keys, and those that are theirs here."""
    table = (DOCS / page).read_text("utf-8").partition("\n## Each ")[2]
    cells = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    return [(CODE.findall(cell[1]), CODE.findall(cell[2])) for cell in cells]


def known() -> set[str]:
    """Name all keys of the configuration as ``section.key``."""
    found = set[str]()
    for section, hint in typing.get_type_hints(Config).items():
        table = hint if isinstance(hint, type) else typing.get_args(hint)[0]
        found |= {f"{section}.{field.name}" for field in msgspec.structs.fields(table)}
    return found


def unnamed(page: str, keys: Iterable[str]) -> list[str]:
    """Return those of the other server's keys that a page doesn't name, or only with a star."""
    named = {key.partition(" (")[0] for theirs, _ in rows(page) for key in theirs}
    return [key for key in keys if not any(fnmatch(key, one) for one in named)]


@pytest.mark.parametrize("page", PAGES)
def test_every_key_that_it_names_exists(page: str) -> None:
    named = {key for _, ours in rows(page) for key in ours}
    assert len(named) >= 20
    assert named <= known()
    # So do those in the third column.
    spoken = {
        key
        for key in CODE.findall((DOCS / page).read_text("utf-8"))
        if re.fullmatch(r"(?:server|radio|limits|log|tls|access)\.[a-z_]+", key)
    }
    assert spoken <= known()


@pytest.mark.parametrize("page", PAGES)
def test_no_key_of_another_server_is_told_twice(page: str) -> None:
    theirs = [key for keys, _ in rows(page) for key in keys]
    assert len(theirs) == len(set(theirs)) > PAGES[page]


@pytest.mark.skipif(not EXAMPLE.exists(), reason="Icecast's example isn't installed (Debian: icecast2)")
def test_it_names_every_key_of_icecasts_example() -> None:
    text = EXAMPLE.read_text()
    # Most of the example is commented out, and the comments are partly prose.
    uncommented = re.sub(r"<!--(?!\s*<)(?:.|\n)*?-->", "", text).replace("<!--", "").replace("-->", "")
    uncommented = re.sub(
        r"(?m)^\s*(You don't|Please refer|Only define|like alternative|4 Debug).*$", "", uncommented
    )
    top = ElementTree.fromstring(re.sub(r"&(?!\w+;)", "&amp;", uncommented))
    found = set[str]()
    for one in top:
        found |= {f"{one.tag}/{child.tag}" for child in one} or {one.tag}
    assert len(found) > 40
    assert unnamed("from-icecast.md", found) == []


def test_it_names_every_key_of_mediamtx() -> None:
    assert unnamed("from-mediamtx.md", MEDIAMTX) == []


@pytest.mark.skipif(not MODULE.exists(), reason="nginx's RTMP module isn't installed (libnginx-mod-rtmp)")
def test_each_directive_that_it_names_is_one_of_the_module() -> None:
    module = MODULE.read_bytes()
    keys = [key for theirs, _ in rows("from-nginx-rtmp.md") for key in theirs]
    # Debian's module is of an earlier version.
    keys.remove("exec_block")
    assert [key for key in keys if key.encode() + b"\0" not in module] == []


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("from-icecast.md", ["morning.mp3", "night.mp3"]),
        ("from-mediamtx.md", ["studio", "camera"]),
        ("from-nginx-rtmp.md", ["studio"]),
    ],
)
def test_its_configuration_is_valid(page: str, names: list[str]) -> None:
    blocks = re.findall(r"(?:^    .*\n|^\n)+", (DOCS / page).read_text("utf-8"), re.MULTILINE)
    (block,) = (one for one in blocks if one.lstrip().startswith("[server]"))
    config = validate(tomllib.loads(block.replace("…", "secret")), "the document")
    assert [*(one.name for one in config.radio), *(one.name for one in config.live)] == names
