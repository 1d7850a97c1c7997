"""The health of a server: the state of each channel and station, and the reasons of faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from origin.radio.mounts.mount import Mount
from origin.server.services.services import Services
from origin.server.services.worker_interface import READY
from packager.live.channel import Channel
from packager.publish.live_stream import LiveStream
from packager.radio.simulcast import Simulcast

if TYPE_CHECKING:
    from origin.recordings.station_recorder import StationRecorder
    from packager.cluster.shared_dvr import SharedDvr

STATES = ("starting", "live", "idle", "down", "ended")
"""All states of a live channel; stations and event channels have some of them."""

EVENT_STATES = ("live", "ended")
"""The states of an event channel."""

GOOD_STATES = frozenset(("live", "idle", "ended"))
"""States of healthy services; ``idle`` is one that nobody wants now, or that nobody publishes to."""

NO_WORKERS: Mapping[int, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The state of one service, and its trouble.

    Attributes:
        state: one of ``STATES``.
        trouble: the fault, in one line; empty without one, or before anything is known.
    """

    state: str
    trouble: str = ""


WELL = {state: ServiceState(state) for state in STATES}
"""States of services without trouble, by name."""


def is_well(one: ServiceState) -> bool:
    """Return whether nobody needs to look at a service."""
    return one.state in GOOD_STATES and not one.trouble


def health(services: Services, workers: Mapping[int, str] = NO_WORKERS) -> dict[str, object]:
    """Report whether a server lives and is ready, and the states of its services.

    Args:
        workers: the state of each worker process.
    """
    states = service_states(services)
    ready = not (services.draining or services.ending)
    troubles = {name: one.trouble for name, one in states.items() if one.trouble}
    troubles |= _troubles_beside(services)
    troubles |= {f"worker {number}": state for number, state in workers.items() if state != READY}
    good = ready and not troubles and all(is_well(one) for one in states.values())
    report: dict[str, object] = {
        "status": "ok" if good else "degraded",
        "live": True,
        "ready": ready,
        "services": {name: one.state for name, one in states.items()},
        "sandbox": {"complete": not services.missing_sandbox, "missing": services.missing_sandbox},
    }
    if services.live.cluster is not None:
        report["owners"] = {name: one.name for name, one in services.live.cluster.owners.items()}
    if workers:
        report["workers"] = {str(number): state for number, state in workers.items()}
    if troubles:
        report["troubles"] = troubles
    return report


def _troubles_beside(services: Services) -> dict[str, str]:
    """Return the faults of shared parts, such as the library and Redis, by part."""
    live, events = services.live, services.events
    waits = "live channels wait: another server uses the data folder" if services.waits_for_data else ""
    troubles: dict[str, str | None] = {
        "cluster": None if live.cluster is None else live.cluster.connection.told,
        "library": services.library.storage.trouble,
        "DVR": None if live.dvr_bucket is None else live.dvr_bucket.trouble,
        "records": services.made_tables.trouble,
        "webhooks": services.state_webhooks.trouble,
        events.created.name: None if events.created.store is None else events.created.store.trouble,
        **{f"relay/{one.name}": one.trouble for one in events.relays.values()},
        **{one.name: one.trouble for one in services.recording_copies},
        **{one.name: one.trouble for one in services.bucket_recordings.values()},
        "server": services.loop_lag.trouble or waits,
    }
    return {name: text for name, text in troubles.items() if text}


def service_states(services: Services) -> dict[str, ServiceState]:
    """Return the states of all services by name, such as ``live/NAME`` and ``radio/NAME``."""
    live = services.live
    states = {
        f"live/{one.name}": _of_channel(one, live.shared_dvrs.get(one.name)) for one in live.channels.values()
    }
    states |= {
        f"live/{one.name}": _of_simulcast(
            one,
            services.mounts[one.name],
            live.shared_dvrs.get(one.name),
            services.station_recorders.get(one.name),
        )
        for one in live.simulcasts.values()
    }
    elsewhere = sorted(live.simulcast_names - live.simulcasts.keys())
    for name in elsewhere:
        # This node knows only whether there is something to play.
        states[f"live/{name}"] = ServiceState("live" if live.streams[name].ready else "idle")
    states |= {f"live/{one.name}": ServiceState(state_of_stream(one)) for one in live.streams_of_others()}
    states |= {
        f"radio/{one.name}": ServiceState(one.state, one.trouble and f"source: {one.trouble}")
        for one in services.mounts.values()
    }
    histories = services.events.histories
    for name, channel in services.events.channels.items():
        trouble = histories[name].trouble if name in histories else ""
        states[f"events/{name}"] = ServiceState(channel.state, f"history: {trouble}" if trouble else "")
    return states


def state_of_stream(stream: LiveStream) -> str:
    """Return the state of another node's live channel, as far as this node knows it."""
    return "ended" if all(one.window.ended for one in stream.renditions.values()) else "live"


def _of_channel(
    channel: Channel, shared_dvr: SharedDvr | None = None, recorder: StationRecorder | None = None
) -> ServiceState:
    dvr, keeper, state = shared_dvr or channel.archive, recorder or channel.span_keeper, channel.state
    troubles = (
        ("source", channel.trouble if state == "down" else ""),
        ("DVR", "" if dvr is None else dvr.trouble),
        ("recording", channel.live_event.trouble or (keeper.trouble if keeper is not None else "")),
        ("programmes", channel.programmes.trouble),
    )
    told = [f"{key}: {text}" for key, text in troubles if text]
    # Nearly all are well, of which there may be thousands.
    return ServiceState(state, "; ".join(told)) if told else WELL[state]


def _of_simulcast(
    simulcast: Simulcast,
    mount: Mount,
    shared_dvr: SharedDvr | None = None,
    recorder: StationRecorder | None = None,
) -> ServiceState:
    """Describe a station's HLS: it can't begin without the station's sound."""
    if "idle" in (simulcast.state, mount.state):
        return WELL["idle"]
    return _of_channel(simulcast.channel, shared_dvr, recorder)
