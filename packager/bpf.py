"""The seccomp filter of a child, as a classic BPF program (seccomp(2)); written by hand, for it is short.

What a media program has no use for is refused with EPERM: other processes, sockets (or all but those of the
network), new processes, namespaces, kernel interfaces, and changes of files' modes and owners, which Landlock
doesn't see.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from packager import launcher

ALLOW, ERRNO = 0x7FFF_0000, 0x0005_0000

LOAD, JUMP_EQUAL, JUMP_GREATER_OR_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
"""Offsets in ``struct seccomp_data``; of the argument its lower half, on little-endian machines."""

OWN_PID = launcher.OWN_PID
"""Stands for the filtered process's id, which isn't known before it runs; the launcher puts it in."""

CLONE_THREAD = 0x0001_0000
X32_BIT = 0x4000_0000
AF_INET, AF_INET6, AF_NETLINK = 2, 10, 16

COMMON = (424, 425, 426, 427, 434, 438, 428, 429, 430, 431, 432, 433, 442, 452)
"""pidfd_send_signal, io_uring_*, pidfd_open, pidfd_getfd, the new mount interface, fchmodat2: new calls have
the same numbers everywhere."""


@dataclass(frozen=True, slots=True)
class Machine:
    """System call numbers of one architecture.

    Attributes:
        architecture: AUDIT_ARCH_*.
        refused: calls that are refused whatever their arguments are.
        clone: allowed for threads only.
        clone3: hides its flags in memory: said not to exist, so that the C library takes clone.
        signals: calls that send a signal to the process in their first argument: allowed to itself.
        prlimit: likewise, where 0 is itself.
        socket: refused, or but for the network's families.
    """

    architecture: int
    refused: tuple[int, ...]
    clone: int
    clone3: int
    signals: tuple[int, ...]
    prlimit: int
    socket: int


MACHINES = {
    "x86_64": Machine(
        architecture=0xC000_003E,
        refused=(
            *(57, 58),  # fork, vfork
            *(101, 310, 311, 312),  # ptrace, process_vm_readv, process_vm_writev, kcmp
            *(90, 91, 268, 92, 93, 94, 260),  # chmod, fchmod, fchmodat, chown, fchown, lchown, fchownat
            *(132, 235, 261, 280),  # utime, utimes, futimesat, utimensat
            *(188, 189, 190, 197, 198, 199),  # setxattr, lsetxattr, fsetxattr, removexattr …
            *(272, 308, 165, 166, 155, 161),  # unshare, setns, mount, umount2, pivot_root, chroot
            *(321, 298, 323, 248, 249, 250),  # bpf, perf_event_open, userfaultfd, keys
            *(246, 320, 175, 313, 176, 304),  # kexec_load, kexec_file_load, *_module, open_by_handle_at
            *(164, 227, 159, 305, 169, 163, 167, 168, 135),  # the clock, reboot, acct, swap, personality
            *(200, 129, 297),  # tkill, rt_sigqueueinfo, rt_tgsigqueueinfo
        ),
        clone=56, clone3=435, signals=(62, 234), prlimit=302, socket=41,
    ),
    "aarch64": Machine(
        architecture=0xC000_00B7,
        refused=(
            *(117, 270, 271, 272),  # ptrace, process_vm_readv, process_vm_writev, kcmp
            *(52, 53, 54, 55, 88),  # fchmod, fchmodat, fchownat, fchown, utimensat
            *(5, 6, 7, 14, 15, 16),  # setxattr …, removexattr …
            *(97, 268, 40, 39, 41, 51),  # unshare, setns, mount, umount2, pivot_root, chroot
            *(280, 241, 282, 217, 218, 219),  # bpf, perf_event_open, userfaultfd, keys
            *(104, 294, 105, 273, 106, 265),  # kexec_load, kexec_file_load, *_module, open_by_handle_at
            *(170, 112, 171, 266, 142, 89, 224, 225, 92),  # the clock, reboot, acct, swap, personality
            *(130, 138, 240),  # tkill, rt_sigqueueinfo, rt_tgsigqueueinfo
        ),
        clone=220, clone3=435, signals=(129, 131), prlimit=261, socket=198,
    ),
}  # fmt: skip


def machine(name: str) -> Machine | None:
    """Look the numbers of an architecture up, by uname's name for it; None where they aren't known."""
    return MACHINES.get(name)


def program(machine: Machine, *, network: bool) -> bytes:
    """Write the filter.

    Args:
        machine: the architecture.
        network: whether it may have internet sockets.

    Returns:
        ``struct sock_filter`` one behind the other, with ``OWN_PID`` where the process's id belongs.
    """
    refuse = _return(ERRNO | errno.EPERM)
    code = [_load(ARCHITECTURE), _jump(JUMP_EQUAL, machine.architecture, 1, 0), refuse, _load(NUMBER)]
    if machine is MACHINES["x86_64"]:
        code += [_jump(JUMP_GREATER_OR_EQUAL, X32_BIT, 0, 1), refuse]
    for number in (*machine.refused, *COMMON):
        code += [_jump(JUMP_EQUAL, number, 0, 1), refuse]
    code += [_jump(JUMP_EQUAL, machine.clone3, 0, 1), _return(ERRNO | errno.ENOSYS)]
    code += _only_if(machine.clone, JUMP_SET, (CLONE_THREAD,), errno.EPERM)
    for number in machine.signals:
        code += _only_if(number, JUMP_EQUAL, (OWN_PID,), errno.EPERM)
    code += _only_if(machine.prlimit, JUMP_EQUAL, (0, OWN_PID), errno.EPERM)
    families = (AF_INET, AF_INET6, AF_NETLINK) if network else ()
    code += _only_if(machine.socket, JUMP_EQUAL, families, errno.EACCES)
    return b"".join([*code, _return(ALLOW)])


def _only_if(number: int, test: int, values: tuple[int, ...], otherwise: int) -> list[bytes]:
    """Allow a call where its first argument passes one of the tests; both ways end here."""
    inside = [_load(FIRST_ARGUMENT)]
    for value in values:
        inside += [_jump(test, value, 0, 1), _return(ALLOW)]
    inside.append(_return(ERRNO | otherwise))
    return [_jump(JUMP_EQUAL, number, 0, len(inside)), *inside]


def _load(offset: int) -> bytes:
    return struct.pack("=HBBI", LOAD, 0, 0, offset)


def _jump(test: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("=HBBI", test, if_true, if_false, value)


def _return(value: int) -> bytes:
    return struct.pack("=HBBI", RETURN, 0, 0, value)
