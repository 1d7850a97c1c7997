"""A network link with delay and loss, between two network namespaces of Linux.

Each end is a TUN device; this process carries the packets from one to the other. It serves where the kernel
has no `netem`, and loses packets of TCP and UDP alike. It needs the rights to make namespaces.

``python -m tests.benchmarks.link NEAR FAR DELAY_SECONDS LOSS`` prints a line once the link of two namespaces
is up, and carries packets until it is ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.processes import end

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET_BYTES = 1 << 16
NEAR_ADDRESS, FAR_ADDRESS = "10.213.0.1", "10.213.0.2"


@dataclass(frozen=True, slots=True)
class Link:
    """Two namespaces with a link between them.

    Attributes:
        near: the command's beginning of programs at the client's end.
        far: that of programs at the server's end, which has `FAR_ADDRESS`.
    """

    near: tuple[str, ...]
    far: tuple[str, ...]


def is_possible() -> bool:
    """Return whether this machine lets us make a link."""
    return os.geteuid() == 0 and os.access("/dev/net/tun", os.R_OK | os.W_OK)


@contextlib.contextmanager
def linked(round_trip: float, loss: float) -> Iterator[Link]:
    """Have a link until the block ends.

    Args:
        round_trip: in seconds, half of it each way.
        loss: share of the packets that are lost, each way.
    """
    names = [f"headwater-{os.getpid()}-{which}" for which in ("near", "far")]
    with contextlib.ExitStack() as stack:
        for name in names:
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "del", name)
        command = [sys.executable, "-m", __name__, *names, str(round_trip / 2), str(loss)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        stack.callback(end, process)
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError("the link can't be made")
        near, far = (("ip", "netns", "exec", name) for name in names)
        yield Link(near, far)


def run(*command: str) -> None:
    """Run a program to its end."""
    subprocess.run(command, check=True)


def device_in(namespace: str, name: str, own: str, other: str) -> int:
    """Make a TUN device in a namespace, and have this process stay there.

    Args:
        own: its address.
        other: the address at the other end.

    Returns:
        Its descriptor.
    """
    entered = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(entered, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    os.close(entered)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    run("ip", "addr", "add", own, "peer", other, "dev", name)
    run("ip", "link", "set", name, "up")
    run("ip", "link", "set", "lo", "up")
    return device


def carry(near: int, far: int, delay: float, loss: float) -> None:
    """Carry packets between two devices for ever."""
    waiting, numbers = list[tuple[float, int, int, bytes]](), itertools.count()
    chance = random.Random(1)
    while True:
        left = None if not waiting else max(0.0, waiting[0][0] - time.monotonic())
        for device in select.select([near, far], [], [], left)[0]:
            packet, other = os.read(device, PACKET_BYTES), far if device == near else near
            if chance.random() >= loss:
                heapq.heappush(waiting, (time.monotonic() + delay, next(numbers), other, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(waiting)
            os.write(device, packet)


if __name__ == "__main__":
    one = device_in(sys.argv[1], "near", NEAR_ADDRESS, FAR_ADDRESS)
    another = device_in(sys.argv[2], "far", FAR_ADDRESS, NEAR_ADDRESS)
    print("up", flush=True)  # noqa: T201  # its report
    carry(one, another, float(sys.argv[3]), float(sys.argv[4]))
