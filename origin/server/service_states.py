"""The state of each live channel, station and event channel, and the reason of those that aren't well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from origin.radio.mount import Mount
from packager.live.channel import Channel
from packager.publish.live_stream import LiveStream
from packager.radio.simulcast import Simulcast

if TYPE_CHECKING:
    from origin.server.services import Services
    from packager.cluster.shared_dvr import SharedDvr

STATES = ("starting", "live", "idle", "down", "ended")
"""All states of a live channel; stations and event channels have some of them."""

EVENT_STATES = ("live", "ended")
"""Those of an event channel."""

GOOD_STATES = frozenset(("live", "idle", "ended"))
"""States of healthy services; ``idle`` is one that nobody wants now, or that nobody publishes to."""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """How one service is.

    Attributes:
        state: one of ``STATES``.
        trouble: what isn't well with it, in one line; empty where all is, or it hasn't been told yet.
    """

    state: str
    trouble: str = ""


def is_well(one: ServiceState) -> bool:
    """Tell whether nobody needs to look at a service."""
    return one.state in GOOD_STATES and not one.trouble


def service_states(services: Services) -> dict[str, ServiceState]:
    """Give the states of all services by name, such as ``live/NAME`` and ``radio/NAME``."""
    states = {
        f"live/{one.name}": _of_channel(one, services.shared_dvrs.get(one.name))
        for one in services.channels.values()
    }
    states |= {
        f"live/{one.name}": _of_simulcast(one, services.mounts[one.name])
        for one in services.simulcasts.values()
    }
    elsewhere = sorted(services.simulcast_names - services.simulcasts.keys())
    for name in elsewhere:
        # It is known here alone whether there is something to play.
        states[f"live/{name}"] = ServiceState("live" if services.streams[name].ready else "idle")
    states |= {f"live/{one.name}": ServiceState(state_of_stream(one)) for one in services.streams_of_others()}
    states |= {f"radio/{one.name}": _of_station(one) for one in services.mounts.values()}
    histories = services.events.histories
    for name, channel in services.events.channels.items():
        trouble = histories[name].trouble if name in histories else ""
        states[f"events/{name}"] = ServiceState(channel.state, f"history: {trouble}" if trouble else "")
    return states


def state_of_stream(stream: LiveStream) -> str:
    """Tell the state of a live channel that another node of the cluster makes, as far as it is known here."""
    return "ended" if all(one.window.ended for one in stream.renditions.values()) else "live"


def _of_channel(channel: Channel, shared_dvr: SharedDvr | None) -> ServiceState:
    dvr = shared_dvr or channel.archive
    troubles = {
        "source": channel.trouble,
        "DVR": "" if dvr is None else dvr.trouble,
        "recording": channel.live_event.trouble,
    }
    return ServiceState(channel.state, "; ".join(f"{key}: {text}" for key, text in troubles.items() if text))


def _of_simulcast(simulcast: Simulcast, mount: Mount) -> ServiceState:
    """Describe a station's HLS: it can't begin without the station's sound."""
    if simulcast.state != "idle" and mount.state == "idle":
        return ServiceState("idle")
    trouble = "" if simulcast.state == "idle" else simulcast.channel.trouble
    return ServiceState(simulcast.state, f"source: {trouble}" if trouble else "")


def _of_station(mount: Mount) -> ServiceState:
    return ServiceState(mount.state, f"source: {mount.trouble}" if mount.trouble else "")
