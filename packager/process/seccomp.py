"""The seccomp filter of a child, as a classic BPF program (seccomp(2)) that allows a list of calls.

The calls are those that ffmpeg 5.1 and 8.1 make here, linked with glibc or by themselves, with every decoder,
encoder and protocol that the packager uses, and those that a C library may take in their place. So other
processes, System V's shared memory, keys, namespaces, mounts, tracing, io_uring, BPF, owners, modes and
attributes of files are out of reach, and so is every call that a later kernel brings.

Refused calls fail with EPERM, as without permission. Calls with numbers beyond those that were known when
this was written fail with ENOSYS: a later C library tries whether a new call exists, and else uses the old
one.
"""

from __future__ import annotations

import errno
import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from packager.process import launcher

ALLOW, ERRNO = 0x7FFF_0000, 0x0005_0000

LOAD, MASK, RETURN = 0x20, 0x54, 0x06
JUMP_EQUAL, JUMP_GREATER_OR_EQUAL, JUMP_SET = 0x15, 0x35, 0x45
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Offsets in ``struct seccomp_data``; of an argument its lower half, on little-endian machines."""

OWN_PID = launcher.OWN_PID
"""Stands for the filtered process's id, which isn't known before it runs; the launcher puts it in."""

X32_BIT = 0x4000_0000
NEWEST = 469
"""The last call of Linux 6.18, file_setattr."""

NONE = -1
"""The architecture hasn't such a call."""

EVERYWHERE = {
    # Memory and time.
    "brk": (12, 214), "mmap": (9, 222), "munmap": (11, 215), "mprotect": (10, 226), "mremap": (25, 216),
    "madvise": (28, 233), "msync": (26, 227), "mincore": (27, 232), "mlock": (149, 228),
    "munlock": (150, 229), "get_mempolicy": (239, 236), "membarrier": (324, 283), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "nanosleep": (35, 101),
    "gettimeofday": (96, 169), "time": (201, NONE), "times": (100, 153), "getitimer": (36, 102),
    "setitimer": (38, 103), "alarm": (37, NONE),
    # Threads.
    "futex": (202, 98), "futex_waitv": (449, 449), "set_robust_list": (273, 99),
    "get_robust_list": (274, 100), "set_tid_address": (218, 96), "rseq": (334, 293),
    "arch_prctl": (158, NONE), "gettid": (186, 178), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "sched_getscheduler": (145, 120), "sched_getparam": (143, 121),
    "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126), "getpriority": (140, 141),
    "getcpu": (309, 168), "exit": (60, 93), "exit_group": (231, 94), "restart_syscall": (219, 128),
    # Signals that it gets.
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136), "rt_sigsuspend": (130, 133), "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132), "pause": (34, NONE),
    # Its program and its identity.
    "execve": (59, 221), "getpid": (39, 172), "getppid": (110, 173), "getuid": (102, 174),
    "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "getgroups": (115, 158),
    "getresuid": (118, 148), "getresgid": (120, 150), "getpgrp": (111, NONE), "getpgid": (121, 155),
    "getsid": (124, 156), "getrusage": (98, 165), "getrlimit": (97, 163), "sysinfo": (99, 179),
    "uname": (63, 160), "getrandom": (318, 278), "umask": (95, 166),
    # Files and pipes; which of them, Landlock says.
    "read": (0, 63), "readv": (19, 65), "pread64": (17, 67), "preadv": (295, 69), "preadv2": (327, 286),
    "write": (1, 64), "writev": (20, 66), "pwrite64": (18, 68), "pwritev": (296, 70), "pwritev2": (328, 287),
    "close": (3, 57), "close_range": (436, 436), "lseek": (8, 62), "sendfile": (40, 71), "splice": (275, 76),
    "fadvise64": (221, 223), "readahead": (187, 213), "stat": (4, NONE), "lstat": (6, NONE), "fstat": (5, 80),
    "newfstatat": (262, 79), "statx": (332, 291), "statfs": (137, 43), "fstatfs": (138, 44),
    "access": (21, NONE), "faccessat": (269, 48), "faccessat2": (439, 439), "readlink": (89, NONE),
    "readlinkat": (267, 78), "getdents": (78, NONE), "getdents64": (217, 61), "getcwd": (79, 17),
    "chdir": (80, 49), "fchdir": (81, 50), "dup": (32, 23), "dup2": (33, NONE), "dup3": (292, 24),
    "pipe": (22, NONE), "pipe2": (293, 59), "flock": (73, 32),
    # Waiting.
    "poll": (7, NONE), "ppoll": (271, 73), "select": (23, NONE), "pselect6": (270, 72),
    "epoll_create": (213, NONE), "epoll_create1": (291, 20), "epoll_ctl": (233, 21),
    "epoll_wait": (232, NONE), "epoll_pwait": (281, 22), "epoll_pwait2": (441, 441), "eventfd": (284, NONE),
    "eventfd2": (290, 19),
}  # fmt: skip
"""System calls that every program may make with any arguments: their numbers on x86-64 and on 64-bit ARM."""

SOCKETS = {
    "connect": (42, 203), "bind": (49, 200), "recvfrom": (45, 207),
    "recvmsg": (47, 212), "recvmmsg": (299, 243), "getsockname": (51, 204), "getpeername": (52, 205),
    "getsockopt": (55, 209), "setsockopt": (54, 208), "shutdown": (48, 210),
}  # fmt: skip
"""Further system calls of a program with network access; none of these programs listens."""

WRITING = {
    "creat": (85, NONE), "truncate": (76, 45), "ftruncate": (77, 46), "fallocate": (285, 47),
    "fsync": (74, 82), "fdatasync": (75, 83), "mkdir": (83, NONE), "mkdirat": (258, 34), "rmdir": (84, NONE),
    "unlink": (87, NONE), "unlinkat": (263, 35), "rename": (82, NONE), "renameat": (264, 38),
    "renameat2": (316, 276),
}  # fmt: skip
"""Further system calls of a program that makes files."""

BY_ARGUMENTS = {
    "clone": (56, 220), "clone3": (435, 435), "kill": (62, 129), "tgkill": (234, 131),
    "prlimit64": (302, 261), "prctl": (157, 167), "ioctl": (16, 29), "fcntl": (72, 25), "socket": (41, 198),
    "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269), "open": (2, NONE), "openat": (257, 56),
}  # fmt: skip
"""System calls that are allowed depending on their arguments; see ``program``."""

CLONE_THREAD = 0x0001_0000
NAMESPACES = 0x7E02_0080
"""clone(2): CLONE_NEWNS, -CGROUP, -UTS, -IPC, -USER, -PID, -NET and -TIME."""

PRCTL = (15, 16, 23, 39, 0x5356_4D41)
"""prctl(2): the thread's name, which capabilities and privileges there are, names of memory. Not the signal
of the parent's death, nor whether others may trace it."""

IOCTL = (0x5401, 0x802C_542A, 0x5413, 0x5421, 0x5450, 0x5451, 0x541B)
"""ioctl(2): whether it is a terminal and how large, non-blocking, close-on-exec, how much can be read. Not
TIOCSTI, nor FIOSETOWN and SIOCSPGRP, which have signals sent to others."""

IOCTL_TYPE = 0xFF00
DEVICE_IOCTL = (0x0000, 0x3E00, 0x4600, 0x5600, 0x6200, 0x6400)
"""ioctl(2) of a program with devices, by types: NVIDIA's memory, fences, NVIDIA, V4L2, DMA buffers, DRM."""

FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1031, 1032)
"""fcntl(2): copies, flags, locks, the size of a pipe. Not F_SETOWN and F_SETSIG, which send signals."""

CREATING = 0x0040_0000 | 0x0200 | 0x0040
"""open(2): O_TMPFILE (without O_DIRECTORY, which it holds), O_TRUNC, O_CREAT."""

AF_INET, AF_INET6 = 2, 10
STREAM, DATAGRAM = (1, 6), (2, 17)
"""socket(2): a type, and the protocol that is meant by it: TCP, UDP."""

SOCKET_TYPE = 0xF
"""Of the type; what is beyond these bits are flags."""

MSG_FASTOPEN = 0x2000_0000


@dataclass(frozen=True, slots=True)
class Machine:
    """The numbers by which one architecture's system calls are known to the filter.

    Attributes:
        architecture: one of the kernel's ``AUDIT_ARCH_*``.
        column: where its numbers stand in the tables.
        x32: whether it has a second set of calls, whose numbers have a bit of their own.
    """

    architecture: int
    column: int
    x32: bool = False

    def numbers(self, *tables: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        """Return the numbers of the system calls on this architecture."""
        rows = itertools.chain.from_iterable(table.items() for table in tables)
        return {name: row[self.column] for name, row in rows if row[self.column] != NONE}


MACHINES = {"x86_64": Machine(0xC000_003E, 0, x32=True), "aarch64": Machine(0xC000_00B7, 1)}


def machine(name: str) -> Machine | None:
    """Return an architecture by uname's name; None where its system calls' numbers aren't known."""
    return MACHINES.get(name)


def program(
    machine: Machine,
    *,
    stream: bool = False,
    datagram: bool = False,
    writing: bool = False,
    devices: bool = False,
) -> bytes:
    """Write the filter.

    Args:
        stream: whether it may have sockets of TCP.
        datagram: whether it may have sockets of UDP.
        writing: whether it may make files.
        devices: whether it may control devices.

    Returns:
        ``struct sock_filter`` one behind the other, with ``OWN_PID`` where the process's id belongs.
    """
    kinds = [kind for kind, wanted in ((STREAM, stream), (DATAGRAM, datagram)) if wanted]
    allowed = machine.numbers(EVERYWHERE, SOCKETS if kinds else {}, WRITING if writing else {})
    code = [_load(ARCHITECTURE), _jump(JUMP_EQUAL, machine.architecture, 1, 0), _refuse(errno.EPERM)]
    code.append(_load(NUMBER))
    if machine.x32:
        code += [_jump(JUMP_GREATER_OR_EQUAL, X32_BIT, 0, 1), _refuse(errno.EPERM)]
    for number, check in _checks(machine.numbers(BY_ARGUMENTS), kinds, writing=writing, devices=devices):
        code += [_jump(JUMP_EQUAL, number, 0, len(check)), *check]
    for first, last in _runs(allowed.values()):
        code += [
            _jump(JUMP_GREATER_OR_EQUAL, first, 0, 2),
            _jump(JUMP_GREATER_OR_EQUAL, last + 1, 1, 0),
            _return(ALLOW),
        ]
    code += [_jump(JUMP_GREATER_OR_EQUAL, NEWEST + 1, 0, 1), _refuse(errno.ENOSYS), _refuse(errno.EPERM)]
    return b"".join(code)


def _checks(
    numbers: Mapping[str, int], kinds: list[tuple[int, int]], *, writing: bool, devices: bool
) -> Iterator[tuple[int, list[bytes]]]:
    """Return the instructions for calls that depend on their arguments; each path ends within them."""
    # A new process is out of reach, and so is a thread that has a namespace of its own.
    new_thread = [_jump(JUMP_SET, NAMESPACES, 1, 0), _jump(JUMP_SET, CLONE_THREAD, 1, 0)]
    yield numbers["clone"], [_load(_argument(0)), *new_thread, _refuse(errno.EPERM), _return(ALLOW)]
    # Its flags are in memory, where a filter can't look: the C library takes clone where it doesn't exist.
    yield numbers["clone3"], [_refuse(errno.ENOSYS)]
    for name in ("kill", "tgkill"):
        yield numbers[name], _one_of(0, (OWN_PID,))
    yield numbers["prlimit64"], _one_of(0, (0, OWN_PID))
    yield numbers["prctl"], _one_of(0, PRCTL)
    types = [_mask(IOCTL_TYPE), *_equal_to(DEVICE_IOCTL)] if devices else []
    yield numbers["ioctl"], [_load(_argument(1)), *_equal_to(IOCTL), *types, _refuse(errno.EPERM)]
    yield numbers["fcntl"], _one_of(1, FCNTL)
    yield numbers["socket"], _socket(kinds)
    # Landlock looks at connect(2) alone, and data that opens a connection (RFC 7413) leads past it.
    for name, flags in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)):
        yield numbers[name], _without(flags, MSG_FASTOPEN) if kinds else [_refuse(errno.EPERM)]
    for name, flags in (("open", 1), ("openat", 2)):
        if name in numbers:
            # Where there is no Landlock, nothing else would keep it from making and emptying files.
            yield numbers[name], _without(flags, 0 if writing else CREATING)


def _socket(kinds: list[tuple[int, int]]) -> list[bytes]:
    """Allow TCP and UDP, and no protocol beside them: Landlock doesn't see those, MPTCP among them."""
    code: list[bytes] = []
    for kind, protocol in kinds:
        code += [
            *(_load(_argument(0)), _jump(JUMP_EQUAL, AF_INET, 1, 0), _jump(JUMP_EQUAL, AF_INET6, 0, 7)),
            *(_load(_argument(1)), _mask(SOCKET_TYPE), _jump(JUMP_EQUAL, kind, 0, 4)),
            *(_load(_argument(2)), _jump(JUMP_EQUAL, protocol, 1, 0), _jump(JUMP_EQUAL, 0, 0, 1)),
            _return(ALLOW),
        ]
    return [*code, _refuse(errno.EACCES)]


def _one_of(argument: int, values: Iterable[int]) -> list[bytes]:
    """Allow a call where an argument is one of the values."""
    return [_load(_argument(argument)), *_equal_to(values), _refuse(errno.EPERM)]


def _equal_to(values: Iterable[int]) -> list[bytes]:
    """Allow a call where what was loaded is one of the values."""
    return [code for value in values for code in (_jump(JUMP_EQUAL, value, 0, 1), _return(ALLOW))]


def _without(argument: int, flags: int) -> list[bytes]:
    """Allow a call where an argument has none of the flags."""
    return [_load(_argument(argument)), _jump(JUMP_SET, flags, 0, 1), _refuse(errno.EACCES), _return(ALLOW)]


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last number of each run of consecutive numbers."""
    for _, run in itertools.groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        yield members[0], members[-1]


def _argument(index: int) -> int:
    return ARGUMENTS + 8 * index


def _load(offset: int) -> bytes:
    return _instruction(LOAD, offset)


def _mask(bits: int) -> bytes:
    return _instruction(MASK, bits)


def _jump(test: int, value: int, if_true: int, if_false: int) -> bytes:
    return _instruction(test, value, if_true, if_false)


def _refuse(error: int) -> bytes:
    return _return(ERRNO | error)


def _return(value: int) -> bytes:
    return _instruction(RETURN, value)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
