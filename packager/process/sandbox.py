"""The sandbox of a child process: Landlock, seccomp and resource limits.

The plan is computed here and carried out by the launcher, whose start must be fast. Each mechanism works by
itself: if the kernel lacks one, the others are still used (see ``missing``).
"""

from __future__ import annotations

import ctypes
import errno
import functools
import marshal
import os
import resource
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from packager.process import seccomp as seccomp_filter

SYSTEM = (
    "/usr", "/lib", "/lib64", "/bin", "/nix/store", "/etc/ld.so.cache", "/etc/ld.so.preload",
    "/etc/alternatives", "/etc/fonts", "/var/cache/fontconfig", "/etc/localtime", "/dev/urandom",
    "/dev/random", "/dev/zero",
)  # fmt: skip
"""Paths that every program may read: libraries, fonts, randomness."""

SCRATCH = ("/dev/null",)
"""Paths that every program may write."""

DROPPED_CAPABILITIES = tuple(number for number in range(64) if number not in (1, 2))
"""All but CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, so that a root server's child can read its files."""

CREATE_RULESET = 444
"""landlock_create_ruleset(2): the same number on every architecture."""

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE, IOCTL = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL
"""landlock(7): the rights that a rule on a file, not a folder, can give."""

ALL_RIGHTS = (1 << 16) - 1
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
"""Access rights that each version of Landlock handles; all from version 5 on."""

BIND_TCP, CONNECT_TCP = 1, 2
SCOPED = 0b11
"""From version 6 on: no abstract Unix sockets and no signals out of the sandbox."""

TCP_RULES_VERSION = 4
"""First version of Landlock with rules for TCP ports."""

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The permissions of a child process beyond reading the system's libraries; by default none.

    Attributes:
        read: files and folders that the program may only read.
        write: folders in which files may be created and written.
        tcp_port: the only TCP port that it may connect to; 0 for none.
        udp: whether it may open UDP sockets.
        devices: nodes of devices that the program controls; their folders may be listed.
        memory: limit of the address space, in bytes; with devices, of the memory that the program fills, for
            their drivers reserve many times as many addresses.
        files: most descriptors that may be open.
        niceness: how much less of a busy processor it gets, up to 19 (nice(2)).
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    tcp_port: int = 0
    udp: bool = False
    devices: tuple[str, ...] = ()
    memory: int = 3 << 29
    files: int = 64
    niceness: int = 0

    def argument(self, program: str) -> str:
        """Write the plan as the launcher reads it.

        Args:
            program: the absolute path of the program to execute.

        Returns:
            The marshalled plan in hexadecimal digits: limits, capabilities to drop, Landlock's ruleset (empty
            without Landlock), its rules as (path, rights, rights if it is a file), the port of TCP that it
            may connect to (0: none, or Landlock doesn't know ports), the seccomp filter (empty without it),
            the niceness.
        """
        version = landlock_version()
        rights = RIGHTS.get(version, ALL_RIGHTS)
        plan = (
            self._limits(),
            DROPPED_CAPABILITIES,
            b"" if version < 1 else _ruleset(version, rights),
            tuple(
                (path, allowed & rights, allowed & rights & FILE_RIGHTS)
                for path, allowed in self._rules(program)
            ),
            self.tcp_port if version >= TCP_RULES_VERSION else 0,
            self._filter(),
            self.niceness,
        )
        return marshal.dumps(plan).hex()

    def _filter(self) -> bytes:
        machine = seccomp_filter.machine(os.uname().machine) if has_seccomp() else None
        if machine is None:
            return b""
        return seccomp_filter.program(
            machine,
            stream=self.tcp_port > 0,
            datagram=self.udp,
            writing=bool(self.write),
            devices=bool(self.devices),
        )

    def _limits(self) -> tuple[tuple[int, int], ...]:
        limits = [
            (resource.RLIMIT_DATA if self.devices else resource.RLIMIT_AS, self.memory),
            (resource.RLIMIT_NOFILE, self.files),
            (resource.RLIMIT_CORE, 0),
        ]
        return tuple(limits if self.write else [*limits, (resource.RLIMIT_FSIZE, 0)])

    def _rules(self, program: str) -> Iterator[tuple[str, int]]:
        reading = READ_FILE | READ_DIR
        yield program, reading | EXECUTE
        for path in SYSTEM:
            yield path, reading | EXECUTE  # the loader of dynamic programs is executed, too
        for path in self.read:
            yield path, reading
        for path in SCRATCH:
            yield path, READ_FILE | WRITE_FILE
        for path in self.devices:
            yield path, READ_FILE | WRITE_FILE | IOCTL
        for path in sorted({path.rpartition("/")[0] for path in self.devices}):
            yield path, READ_DIR
        for path in self.write:
            yield path, ALL_RIGHTS & ~EXECUTE


@functools.cache
def landlock_version() -> int:
    """Ask the kernel for its version of Landlock's interface; below 1 without Landlock."""
    return int(ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1))


@functools.cache
def has_seccomp() -> bool:
    """Return whether the kernel supports seccomp filters."""
    libc = ctypes.CDLL(None, use_errno=True)
    # seccomp(2): a kernel that supports filters reads the null pointer and fails with EFAULT.
    refused = libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, None, 0, 0) < 0
    return bool(refused) and ctypes.get_errno() == errno.EFAULT


def missing() -> list[str]:
    """List the mechanisms that this kernel lacks, each with the resources that it would protect."""
    lacking: list[str] = []
    if landlock_version() < 1:
        lacking.append("Landlock (the files that this user may read)")
    if seccomp_filter.machine(os.uname().machine) is None:
        lacking.append(f"a seccomp filter for {os.uname().machine} (the network, other processes)")
    elif not has_seccomp():
        lacking.append("seccomp (the network, other processes)")
    return lacking


def _ruleset(version: int, rights: int) -> bytes:
    """Encode ``struct landlock_ruleset_attr`` with the fields of the kernel's version."""
    words = struct.pack("QQQ", rights, BIND_TCP | CONNECT_TCP, SCOPED)
    return words[: 8 if version < TCP_RULES_VERSION else 16 if version < 6 else 24]
