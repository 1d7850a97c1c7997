"""The programmes of all channels of a server, with their recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from packager.programmes.store import ProgrammeStore
from packager.recordings.kept_recordings import AllRecordings


class ChannelProgrammes:
    """The programmes of the channels that this server serves.

    Args:
        stores: the programmes of the channels that it makes, by channel.
        recordings: the recordings of each channel that has some.
        waits_for_data: returns whether another server uses the data folder.

    Attributes:
        elsewhere: returns the programmes of a channel that other nodes of a cluster make.
    """

    def __init__(
        self,
        stores: Mapping[str, ProgrammeStore],
        recordings: Mapping[str, AllRecordings],
        waits_for_data: Callable[[], bool] = lambda: False,
    ) -> None:
        self.waits_for_data = waits_for_data
        self.elsewhere: Callable[[str], ProgrammeStore | None] = lambda _: None
        self._stores = stores
        self._recordings = recordings

    def store(self, channel: str) -> ProgrammeStore | None:
        """Return the programmes of a channel; None where there is none of the name."""
        store = self._stores.get(channel)
        return self.elsewhere(channel) if store is None else store

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
