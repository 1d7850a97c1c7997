"""The launcher that the server starts in place of ffmpeg: it sets up the child and executes ffmpeg.

The launcher makes the child die with its parent, moves the pipes to the descriptors that ffmpeg's arguments
name, and enters the sandbox. It is a fresh interpreter, so that the server's threads and locks can't
interfere.

    python -I -S launcher.py PARENT_PID FD[,FD…]|- SANDBOX|- PROGRAM ARGUMENT…
"""

import ctypes
import marshal
import os
import resource
import struct
import sys

FIRST_PIPE = 3
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
SECCOMP_MODE_FILTER = 2
LANDLOCK = 444
"""The first of Landlock's three system calls: create a ruleset, add a rule, restrict this process."""

RULE_PATH_BENEATH, RULE_NET_PORT = 1, 2
CONNECT_TCP = 2

OWN_PID = 0x7049_6421
"""Placeholder for the process ID in the seccomp filter."""

SIGKILL = 9
LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Set up this process and execute the program."""
    parent, descriptors, sandbox, program, *arguments = sys.argv[1:]
    # prctl(2): the signal is sent when the parent's thread ends.
    LIBC.prctl(PR_SET_PDEATHSIG, SIGKILL)
    if os.getppid() != int(parent):
        sys.exit(1)  # the parent ended before the call above
    move_descriptors([int(number) for number in descriptors.split(",")] if descriptors != "-" else [])
    if sandbox != "-":
        enter_sandbox(sandbox)
    os.execv(program, [program, *arguments])  # noqa: S606  # no shell is involved


def enter_sandbox(plan: str) -> None:
    """Irrevocably enter a sandbox; for the plan, see :meth:`packager.process.sandbox.Sandbox.argument`."""
    limits, capabilities, ruleset, rules, port, code, niceness = marshal.loads(bytes.fromhex(plan))  # noqa: S302  # ours
    os.nice(niceness)
    for kind, value in limits:
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
    for capability in capabilities:
        LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # only root has any to drop
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if ruleset:
        restrict_with_landlock(ruleset, rules, port)
    if code:
        code = code.replace(OWN_PID.to_bytes(4, sys.byteorder), os.getpid().to_bytes(4, sys.byteorder))
        buffer = ctypes.create_string_buffer(code, len(code))
        header = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
        if LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(header), 0, 0) < 0:
            sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")


def restrict_with_landlock(ruleset: bytes, rules: list[tuple[str, int, int]], port: int) -> None:
    """Restrict access to files with Landlock, and in newer versions to the network and signals."""
    descriptor = LIBC.syscall(LANDLOCK, ruleset, ctypes.c_size_t(len(ruleset)), 0)
    for path, rights, rights_on_file in rules:
        try:
            beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # a missing path needs no rule
        folder = os.fstat(beneath).st_mode & 0o170000 == 0o040000
        rule = struct.pack("=Qi", rights if folder else rights_on_file, beneath)
        LIBC.syscall(LANDLOCK + 1, descriptor, RULE_PATH_BENEATH, rule, 0)
        os.close(beneath)
    if port:
        LIBC.syscall(LANDLOCK + 1, descriptor, RULE_NET_PORT, struct.pack("=QQ", CONNECT_TCP, port), 0)
    if LIBC.syscall(LANDLOCK + 2, descriptor, 0) < 0:
        sys.exit(f"Landlock: {os.strerror(ctypes.get_errno())}")
    os.close(descriptor)


def move_descriptors(descriptors: list[int]) -> None:
    """Move the inherited descriptors to 3, 4, 5 … in order, by way of unused numbers."""
    beyond = max([FIRST_PIPE + len(descriptors), *descriptors]) + 1
    for index, number in enumerate(descriptors):
        os.dup2(number, beyond + index, inheritable=False)
        os.close(number)
    for index in range(len(descriptors)):
        os.dup2(beyond + index, FIRST_PIPE + index, inheritable=True)
        os.close(beyond + index)


if __name__ == "__main__":
    main()
