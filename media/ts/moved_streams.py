"""Keeps the streams of a live transport stream at their packet IDs where a new map gives them others.

Where recordings are joined or a multiplexer is set up anew, a version of the program's map may move its
streams, or exchange their packet IDs (ISO/IEC 13818-1 §2.4.4.9). A decoder that has begun goes on with them
at the former IDs without a break.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

from media.ts.tables import ElementaryStream, ProgramMap

_RULES: Sequence[Callable[[ElementaryStream], Hashable]] = (
    lambda one: one,
    lambda one: (one.kind, one.descriptors),
    lambda one: (one.kind, one.sound_type, one.pid),
    lambda one: (one.kind, one.sound_type),
)
"""By which a stream of a map is found in the map before it, the surest first."""


class MovedStreams:
    """Moves packets to the IDs by which their streams are known, without I/O.

    Attributes:
        is_moving: whether packets must be passed through ``place``.
        program: the newest map with the known IDs; None before the first.
    """

    def __init__(self) -> None:
        self.is_moving = False
        self.program: ProgramMap | None = None
        # The newest map as it came, and the known IDs by the streams' IDs in it.
        self._told: ProgramMap | None = None
        self._ids: dict[int, int] = {}
        # By packet ID: the known ID of its stream and the step of its counter, and of the stream that begins
        # there with its next PES packet.
        self._places: dict[int, tuple[int, int]] = {}
        self._coming: dict[int, int] = {}
        # The newest counter by known ID.
        self._counters: dict[int, int] = {}

    def adopt(self, program: ProgramMap, map_pid: int, last: Mapping[int, bytes]) -> ProgramMap:
        """Adopt a map; return it with the known IDs if it has the streams of the one before.

        Args:
            map_pid: ID of the packets that have the map.
            last: the newest packet by ID.
        """
        if program == self._told and self.program is not None:
            return self.program
        ids = self._found(program)
        clock = ids.get(program.clock_pid, program.clock_pid)
        taken = {map_pid} if program.clock_pid in ids else {map_pid, clock}
        if not ids or not taken.isdisjoint(ids.values()):
            self.is_moving, self._ids = False, {one.pid: one.pid for one in program.streams}
            self._told = self.program = program
            return program
        self._note_moves(ids, last)
        moved = {ids[one.pid]: replace(one, pid=ids[one.pid]) for one in program.streams}
        order = () if self.program is None else [one.pid for one in self.program.streams]
        self._told, self._ids = program, ids
        self.program = replace(program, clock_pid=clock, streams=tuple(moved[pid] for pid in order))
        return self.program

    def _found(self, program: ProgramMap) -> dict[int, int]:
        """Return the known ID of each of a map's streams by its ID there; empty if the streams are others."""
        streams = program.streams
        former = () if self._told is None else self._told.streams
        if len({one.pid for one in streams}) != len(streams) or len(former) != len(streams):
            return {}
        ids, left = dict[int, int](), list(former)
        for rule in _RULES:
            places = dict[Hashable, list[ElementaryStream]]()
            for one in reversed(left):
                places.setdefault(rule(one), []).append(one)
            for one in streams:
                if one.pid not in ids and (alike := places.get(rule(one))):
                    ids[one.pid] = self._ids[alike.pop().pid]
            found = set(ids.values())
            left = [one for one in left if self._ids[one.pid] not in found]
        return ids if len(ids) == len(streams) else {}

    def _note_moves(self, ids: Mapping[int, int], last: Mapping[int, bytes]) -> None:
        """Note which streams begin at another packet ID from their next PES packet on."""
        if not self.is_moving:
            if all(pid == known for pid, known in ids.items()):
                return
            self.is_moving = True
            self._places = {pid: (pid, 0) for pid in self._ids}
            self._counters = {pid: last[pid][3] & 15 for pid in self._ids if pid in last}
        self._coming = {
            pid: known for pid, known in ids.items() if self._places.get(pid, (-1, 0))[0] != known
        }

    def place(self, packet: bytes, pid: int) -> tuple[bytes, int] | None:
        """Return a packet with its stream's known ID, and that ID; None if the packet is of no stream.

        The rest of a PES packet that began before a map is still of the stream that was there.
        """
        if packet[1] & 0x40 and (begun := self._coming.pop(pid, None)) is not None:
            self._places = {one: place for one, place in self._places.items() if place[0] != begun}
            following = self._counters.get(begun, -1) + 1
            self._places[pid] = begun, following - (packet[3] & 15)
        place = self._places.get(pid)
        if place is None:
            is_free = pid not in self._coming and pid not in self._ids.values()
            return (packet, pid) if is_free else None
        known, step = place
        counter = (packet[3] + step) & 15
        self._counters[known] = counter
        head = bytes((packet[0], packet[1] & 0xE0 | known >> 8, known & 0xFF, packet[3] & 0xF0 | counter))
        return head + packet[4:], known
