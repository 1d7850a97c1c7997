"""The programmes of all channels of a server, with their recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from packager.past.programmes import Programme
from packager.programmes.store import ProgrammeStore
from packager.recordings.merged_recordings import KeptRecordings


class ChannelProgrammes:
    """The programmes of the channels that this server makes.

    Args:
        stores: by channel.
        recordings: the recordings of each channel that has some.
        is_elsewhere: returns whether another node of a cluster makes a channel now.
        waits_for_data: returns whether another server uses the data folder.
    """

    def __init__(
        self,
        stores: Mapping[str, ProgrammeStore],
        recordings: Mapping[str, KeptRecordings],
        is_elsewhere: Callable[[str], bool] = lambda _: False,
        waits_for_data: Callable[[], bool] = lambda: False,
    ) -> None:
        self.waits_for_data = waits_for_data
        self._stores = stores
        self._recordings = recordings
        self._is_elsewhere = is_elsewhere

    def has_channel(self, channel: str) -> bool:
        """Return whether this server has the programmes of a channel."""
        return channel in self._stores and not self._is_elsewhere(channel)

    def store(self, channel: str) -> ProgrammeStore | None:
        """Return the programmes of a channel; None where another node or nobody has the channel."""
        return self._stores[channel] if self.has_channel(channel) else None

    def is_known(self, channel: str) -> bool:
        """Return whether there is a channel of a name, wherever it is made."""
        return channel in self._stores

    def is_ready(self, channel: str) -> bool:
        """Return whether the programmes of a channel were read."""
        return self._stores[channel].is_loaded

    def find(self, channel: str, name: str) -> Programme | None:
        """Find a programme of a channel."""
        store = self.store(channel)
        return None if store is None else store.schedule.get(name)

    def recording_of(self, channel: str, name: str) -> str:
        """Return the ID of the recording of a programme; empty where there is none."""
        kept = self._recordings.get(channel)
        recording = None if kept is None else kept.of_programme(name)
        return "" if recording is None else recording.metadata.id

    def recorded(self, channel: str) -> Mapping[str, str]:
        """Return the IDs of the recordings of a channel's programmes, by the programmes' names."""
        kept = self._recordings.get(channel)
        if kept is None:
            return {}
        return {one.metadata.programme: one.metadata.id for one in kept if one.metadata.programme}
