"""Descriptions of channels, stations, event channels and relays, as the lists of ``/api/…`` have them."""

from __future__ import annotations

from collections.abc import Mapping

from origin.events.channel import EventChannel
from origin.radio.mounts import now_playing
from origin.radio.mounts.mount import Mount
from origin.token_relay.relay import TokenRelay
from packager.ffmpeg.ladder import COPY
from packager.live.channel import Channel
from packager.publish.live_stream import LiveStream

NO_RECORDINGS: Mapping[str, object] = {"recordings": [], "earlier_recordings": None}
"""Part of the description of a channel or station without recordings."""


def describe_stream(stream: LiveStream, state: str, viewers: int, oldest: float | None) -> dict[str, object]:
    """Describe what is published of a live channel, whichever node of a cluster makes it.

    Args:
        state: the channel's, as far as this node knows it.
        viewers: how many clients fetch its playlists here.
        oldest: date from which on it can be played, in seconds since the epoch.
    """
    return {
        "name": stream.name,
        "state": state,
        # An event that is over, without a DVR or behind its time, isn't served any more.
        "hls": None if stream.is_withdrawn else f"/live/{stream.name}/master.m3u8",
        "available_from": oldest,
        "renditions": [name for name, one in stream.renditions.items() if one.language is None],
        "captions": stream.languages,
        "part_target": float(stream.cadence.part_target),
        "target_duration": stream.target_duration,
        "viewers": viewers,
    }


def describe_closed_channel(described: Mapping[str, object]) -> dict[str, object]:
    """Describe a channel to a client that may have a recording of it alone."""
    shown = {name: described[name] for name in ("name", "recordings")}
    return {**dict.fromkeys(described), "renditions": [], "captions": [], **shown}


def describe_publisher(channel: Channel, rtmp_port: int = 0, srt_port: int = 0) -> dict[str, object] | None:
    """Describe a channel's publisher and its stream; None for a channel with another source.

    Everybody may read the description, so it has neither the publisher's address nor the channel's key.

    Args:
        rtmp_port: the port for publishing by RTMP; 0 for none.
    """
    published = channel.published
    if published is None:
        return None
    live, source = published.live, channel.source
    ladder = () if channel.options.bitrates else channel.options.ladder
    has_ladder = len(ladder) > 1 and COPY in ladder
    told: dict[str, object] = {
        "on_air": published.is_on_air,
        "elsewhere": published.elsewhere or None,
        "publishers": sum(not one.is_slate for one in published.publications),
        "last_error": published.last_error,
        "ingest": f"/live/{channel.name}/ingest",
        "multitrack": f"/live/{channel.name}/ingest/multitrack" if rtmp_port and has_ladder else None,
        "rtmp_port": rtmp_port or None,
        "srt_port": srt_port or None,
        "forwards": [
            {
                "target": one.target,
                "state": one.state,
                "sent_bytes": one.sent,
                "failures": one.failures,
                "last_error": one.last_error,
            }
            for one in channel.forwarders
        ],
    }
    if live is None or live.is_slate:
        return told
    told |= {
        "protocol": live.publisher.protocol,
        "container": published.received_container,
        "since": live.began,
        "received_bytes": live.received,
        "bitrate": live.bitrate,
        "keyframe_interval": live.keyframe_interval,
        "pictures": 1 + len(live.further_video_tracks),
        "lost_packets": live.lost_packets,
        "link": live.link,
    }
    if source is not None and source.stream == published.stream:
        told |= {
            "video_codec": source.video_codec,
            "width": source.size[0],
            "height": source.size[1],
            "frame_rate": float(source.frame_rate) if source.has_video else None,
            "audio_codec": source.audio_codec,
            "is_encoded": source.copied is None,
        }
    return told


def describe_station(
    mount: Mount,
    stream: LiveStream | None = None,
    recordings: Mapping[str, object] = NO_RECORDINGS,
    oldest: float | None = None,
    window_hours: float | None = None,
) -> dict[str, object]:
    """Describe a station and its titles with their media times.

    Args:
        stream: the stream of its live channel, if it has one.
        recordings: of that channel, and where its earlier ones are listed.
        oldest: date from which on the channel can be played, in seconds since the epoch.
        window_hours: longest span of it that a request may name.
    """
    titles = [now_playing.describe_title(title) for title in mount.now.titles]
    return {
        "name": mount.name,
        "station": mount.description.name,
        "genre": mount.description.genre,
        "url": f"/radio/{mount.name}",
        "protected": bool(mount.options.listener_password),
        "hls": None if stream is None else f"/live/{mount.name}/master.m3u8",
        "available_from": oldest,
        "window_hours": window_hours,
        "target_duration": None if stream is None else stream.target_duration,
        **(NO_RECORDINGS if stream is None else recordings),
        "events": f"/events/radio/{mount.name}",
        "media_type": mount.media_type,
        "bitrate": mount.bitrate,
        "title": titles[-1]["title"] if titles else "",
        "now": titles[-1] if titles else None,
        "history": titles[:-1],
        "media_time": now_playing.as_seconds(mount.media_time),
        "listeners": mount.listeners,
        "viewers": 0 if stream is None else stream.viewers,
        "peak": mount.peak,
        "state": mount.state,
        "waits_for": _awaited(mount),
    }


def _awaited(mount: Mount) -> str | None:
    """Return for whom an idle station waits: a listener, where it plays on demand, or a source."""
    if mount.state != "idle":
        return None
    return "listener" if mount.options.on_demand else "source"


def describe_closed_station(mount: Mount) -> dict[str, object]:
    """Describe a station to a client that may not listen to it: only that it exists."""
    told = {
        "name": mount.name,
        "station": mount.options.title or mount.name,
        "url": f"/radio/{mount.name}",
        "protected": True,
        "events": f"/events/radio/{mount.name}",
        "title": "",
        "history": [],
        "recordings": [],
    }
    return dict.fromkeys(describe_station(mount)) | told


def describe_relay(relay: TokenRelay) -> dict[str, object]:
    """Describe a relay of token streams to everybody: neither its upstream servers nor its keys."""
    return {
        "name": relay.name,
        "url": f"/relay/{relay.name}/v1",
        "kept": relay.keeps_answers,
        "events": f"/events/{relay.name}" if relay.publishes else None,
    }


def describe_event_channel(
    channel: EventChannel, *, is_protected: bool, is_readable: bool
) -> dict[str, object]:
    """Describe an event channel; to a client that may not read it, only that it exists."""
    told = channel.describe()
    return {
        "name": channel.name,
        "url": f"/events/{channel.name}",
        "protected": is_protected,
        **(told if is_readable else dict.fromkeys(told)),
    }
