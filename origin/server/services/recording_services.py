"""Makes the services that keep recordings in S3, and those that serve them from there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from origin.config.options import Config, data_folder, recordings_bytes, seconds
from origin.config.stations import has_dvr, kind
from origin.recordings.station_recorder import (
    HeardSources,
    RecordedStation,
    RecordingNews,
    StationRecorder,
)
from origin.server.services.cluster_services import SharedStations
from origin.server.services.limits import Limits
from origin.server.services.live_services import LiveServices
from origin.server.services.s3_config import cache_folder, cache_limits, making
from packager.past.programmes import Schedule
from packager.programmes.store import ProgrammeStore
from packager.recordings.bucket_upload import RecordingCopies
from packager.recordings.disk_recordings import Recordings, Retention
from packager.recordings.span_keeper import KeepingRule
from packager.safe_files import DataFolder

if TYPE_CHECKING:
    from packager.recordings.bucket_recordings import BucketRecordings


def make_recording_copies(
    config: Config, recordings: Mapping[str, Recordings], limits: Limits
) -> list[RecordingCopies]:
    """Make the copiers of recordings, for each channel that records and has a place for copies.

    Raises:
        CommandError: the extra for S3 isn't installed, or the address isn't possible.
    """
    copied = recording_places(config)
    return [_copies(name, copied[name], kept, limits) for name, kept in recordings.items() if name in copied]


def recording_places(config: Config) -> Mapping[str, str]:
    """Return the places in S3 of recordings, by channel or station."""
    stations = dict.fromkeys(recorded_stations(config), _place_of_stations(config))
    return {**stations, **{one.name: one.recordings_copy for one in config.live if one.recordings_copy}}


def recorded_stations(config: Config) -> list[str]:
    """Return the names of the stations whose recordings the nodes of a cluster share."""
    return [one.name for one in config.radio if config.cluster.url and has_dvr(one, config)]


def _place_of_stations(config: Config) -> str:
    return f"{config.server.dvr_path.rstrip('/')}/recordings/radio"


def make_bucket_recordings(
    config: Config, places: Mapping[str, str], limits: Limits
) -> Mapping[str, BucketRecordings]:
    """Make the recordings in S3, by channel; those in one place share its client and cache.

    Args:
        places: the address of the recordings, by channel.

    Raises:
        CommandError: the extra for S3 isn't installed, or the address isn't possible.
    """
    if not places:
        return {}
    with making("live: recordings_copy"):
        from packager.recordings.bucket_recordings import BucketRecordings
        from packager.s3.immutable_objects import BucketFiles

        folder, s3 = cache_folder(config), cache_limits(config, limits.s3)
        buckets = {address: BucketFiles(address, folder, s3) for address in {*places.values()}}
        recordings, owned = limits.live.recordings, _place_of_stations(config)
        return {
            name: BucketRecordings(name, buckets[place], recordings, is_owned=place == owned)
            for name, place in places.items()
        }


def make_station_recorders(
    config: Config,
    live: LiveServices,
    stations: SharedStations | None,
    recordings: Mapping[str, BucketRecordings],
    limits: Limits,
) -> Mapping[str, StationRecorder]:
    """Make what records the stations of a cluster on this node, by station; without a data folder nothing."""
    if live.cluster is None or stations is None:
        return {}
    shared = {name: recordings[name] for name in recorded_stations(config) if name in recordings}
    news = RecordingNews(live.cluster, shared)
    found = {}
    for one in config.radio:
        place = data_folder(config, "radio", one.name)
        dvr, channel = live.shared_dvrs.get(one.name), live.cluster.simulcasts.get(one.name)
        if place is None or dvr is None or channel is None:
            continue
        from packager.recordings.staged_recordings import StagedRecordings

        recorded = RecordedStation(
            place=DataFolder.at(place),
            channel=channel,
            dvr=dvr,
            rule=KeepingRule.of(one.record),
            schedule=_schedule_of(live.simulcasts[one.name].channel.programmes),
            sources=HeardSources(stations.stations[one.name]) if kind(one) == "publish" else None,
        )
        terms = limits.radio.station.channel.recordings
        staged = StagedRecordings(
            one.name,
            recorded.place / "recordings",
            recordings[one.name],
            Retention(seconds(one.recordings), recordings_bytes(one)),
            terms,
        )
        staged.announce = functools.partial(news.announce, one.name)
        found[one.name] = StationRecorder(recorded, staged, live.cluster.connection, terms)
    return found


def _schedule_of(programmes: ProgrammeStore) -> Callable[[], Schedule]:
    return lambda: programmes.schedule


def _copies(name: str, address: str, recordings: Recordings, limits: Limits) -> RecordingCopies:
    with making(f"live: recordings_copy of {name!r}"):
        # Here and not above: it is an extra, which most servers don't have.
        from packager.s3.client import S3Client

        client = S3Client(address, limits.s3)
    return RecordingCopies(name, recordings, client, limits.live.recordings)
