"""The filter of system calls that ffmpeg runs under: what isn't listed doesn't come through."""

from __future__ import annotations

import errno
import json
import os
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from packager.process import seccomp as seccomp_filter
from packager.process.process import run
from packager.process.sandbox import Sandbox
from tests.packager.process.interpreter import LONGEST_SECONDS, PYTHON, RUNTIME

EVERY_CALL = """
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
answers = {}
assert libc.syscall(169 if os.uname().machine == "x86_64" else 142, 0, 0, 0, 0) < 0  # reboot, with no magic
assert ctypes.get_errno() == errno.EPERM, "there is a filter"
for number in map(int, sys.argv[1:]):
    status = libc.syscall(number, 0, 0, 0, 0, 0, 0)
    answers[number] = 0 if status >= 0 else ctypes.get_errno()
os.write(3, json.dumps(answers).encode())
"""


UNFILTERED = {335, 336}
"""uretprobe and uprobe of x86-64, which Linux 6.14 lets past any filter: who calls them gets SIGILL."""


@pytest.mark.slow
async def test_no_call_that_is_not_listed_comes_through(tmp_path: Path) -> None:
    machine = seccomp_filter.MACHINES[os.uname().machine]
    script = tmp_path / "calls.py"
    script.write_text(EVERY_CALL)
    for sandbox, tables in (
        (Sandbox(), ()),
        (Sandbox(tcp_port=9, udp=True), (seccomp_filter.SOCKETS,)),
        (Sandbox(write=(str(tmp_path),)), (seccomp_filter.WRITING,)),
    ):
        listed = set(
            machine.numbers(seccomp_filter.EVERYWHERE, seccomp_filter.BY_ARGUMENTS, *tables).values()
        )
        others = [number for number in range(601) if number not in listed | UNFILTERED]
        sandbox = replace(sandbox, read=(*RUNTIME, str(script)))
        words = [PYTHON, "-I", "-S", str(script), *map(str, others)]
        answers = json.loads(await run(words, limit=LONGEST_SECONDS, sandbox=sandbox))
        assert len(answers) == len(others) > 350
        told = {number: answers[str(number)] for number in others}
        assert {told[number] for number in others if number <= seccomp_filter.NEWEST} == {errno.EPERM}
        assert {told[number] for number in others if number > seccomp_filter.NEWEST} == {errno.ENOSYS}


def verdict(code: bytes, machine: seccomp_filter.Machine, number: int, *arguments: int) -> int:
    """Run a filter as the kernel does; give 0 where it lets a call through, else the error's number."""
    data = struct.pack("=iIQ6Q", number, machine.architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    program = list(struct.iter_unpack("=HBBI", code))
    place = accumulator = 0
    while True:
        operation, if_true, if_false, value = program[place]
        place += 1
        match operation:
            case seccomp_filter.LOAD:
                (accumulator,) = struct.unpack_from("=I", data, value)
            case seccomp_filter.MASK:
                accumulator &= value
            case seccomp_filter.JUMP_EQUAL:
                place += if_true if accumulator == value else if_false
            case seccomp_filter.JUMP_GREATER_OR_EQUAL:
                place += if_true if accumulator >= value else if_false
            case seccomp_filter.JUMP_SET:
                place += if_true if accumulator & value else if_false
            case seccomp_filter.RETURN:
                return 0 if value == seccomp_filter.ALLOW else value & 0xFFFF


@pytest.mark.parametrize("name", seccomp_filter.MACHINES)
def test_a_filter_lets_exactly_what_is_listed_through(name: str) -> None:
    machine = seccomp_filter.MACHINES[name]
    everywhere, sockets, writing = (
        set(machine.numbers(table).values())
        for table in (seccomp_filter.EVERYWHERE, seccomp_filter.SOCKETS, seccomp_filter.WRITING)
    )
    judged = set(machine.numbers(seccomp_filter.BY_ARGUMENTS).values())
    for words, more in (
        ({}, set[int]()),
        ({"stream": True}, sockets),
        ({"datagram": True}, sockets),
        ({"writing": True}, writing),
    ):
        code = seccomp_filter.program(machine, **words)
        assert len(code) // 8 <= 4096  # BPF_MAXINSNS
        through = {n for n in range(1000) if n not in judged and verdict(code, machine, n) == 0}
        assert through == everywhere | more
        assert verdict(code, machine, everywhere.pop() | 0x4000_0000) != 0
        everywhere = set(machine.numbers(seccomp_filter.EVERYWHERE).values())
        assert verdict(code, replace(machine, architecture=0x4000_0003), min(everywhere)) == errno.EPERM


@pytest.mark.parametrize("name", seccomp_filter.MACHINES)
def test_what_depends_on_arguments_is_judged_by_them(name: str) -> None:
    machine = seccomp_filter.MACHINES[name]
    call = machine.numbers(seccomp_filter.BY_ARGUMENTS)
    no_network, network = (
        seccomp_filter.program(machine),
        seccomp_filter.program(machine, stream=True, datagram=True),
    )
    own = seccomp_filter.OWN_PID
    thread = 0x3D0F00  # CLONE_VM | FS | FILES | SIGHAND | THREAD | SYSVSEM | SETTLS | …, as glibc's
    allowed = [
        (call["clone"], thread), (call["kill"], own, 15), (call["tgkill"], own, 7, 6),
        (call["prlimit64"], 0, 3), (call["prctl"], 15), (call["ioctl"], 1, 0x5401),
        (call["fcntl"], 1, 2, 1), (call["openat"], 0, 0, 0o2000000),
    ]  # fmt: skip
    refused = [
        (call["clone"], 17), (call["clone"], thread | 0x1000_0000), (call["clone"], thread | 0x0002_0000),
        (call["clone3"],), (call["kill"], own + 1), (call["kill"], 0), (call["kill"], 2**32 - 1),
        (call["tgkill"], 1), (call["prlimit64"], 1), (call["prctl"], 1), (call["prctl"], 0x5961_6D61),
        (call["ioctl"], 0, 0x5412), (call["ioctl"], 0, 0x8901), (call["fcntl"], 0, 8), (call["fcntl"], 0, 10),
        (call["socket"], 2, 1, 6), (call["sendto"], 0), (call["openat"], 0, 0, 0o101),
        (call["openat"], 0, 0, 0o1002), (call["openat"], 0, 0, 0o20200002),
    ]  # fmt: skip
    assert [words for words in allowed if verdict(no_network, machine, *words)] == []
    assert [words for words in refused if not verdict(no_network, machine, *words)] == []
    assert verdict(no_network, machine, *refused[3]) == errno.ENOSYS
    for family, kind, protocol, expected in (
        (2, 1, 6, 0), (10, 0o2000001, 0, 0), (2, 2, 17, 0), (10, 0o4002, 0, 0),
        (1, 1, 0, errno.EACCES), (16, 3, 0, errno.EACCES), (17, 3, 0, errno.EACCES), (2, 3, 1, errno.EACCES),
        (2, 1, 262, errno.EACCES), (2, 1, 132, errno.EACCES), (40, 1, 0, errno.EACCES),
    ):  # fmt: skip
        assert verdict(network, machine, call["socket"], family, kind, protocol) == expected
    stream = seccomp_filter.program(machine, stream=True)
    assert verdict(stream, machine, call["socket"], 2, 1, 6) == 0
    assert verdict(stream, machine, call["socket"], 2, 2, 17) == errno.EACCES
    assert verdict(network, machine, call["sendto"], 0, 0, 0, 0x4000) == 0
    assert verdict(network, machine, call["sendto"], 0, 0, 0, 0x2000_0000) == errno.EACCES
    assert verdict(seccomp_filter.program(machine, writing=True), machine, call["openat"], 0, 0, 0o1101) == 0


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_the_numbers_of_calls_are_the_kernels(name: str, header: str) -> None:
    path = Path(header)
    if not path.exists():
        pytest.skip("the kernel's headers aren't installed (linux-libc-dev)")
    told = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", path.read_text(), re.MULTILINE)
    numbers = {call: int(number) for call, number in told}
    tables = (
        seccomp_filter.EVERYWHERE,
        seccomp_filter.SOCKETS,
        seccomp_filter.WRITING,
        seccomp_filter.BY_ARGUMENTS,
    )
    # The 64-bit architectures' fstatat has another name in the header that all share.
    listed = {
        ("fstatat" if call == "newfstatat" and name == "aarch64" else call): number
        for call, number in seccomp_filter.MACHINES[name].numbers(*tables).items()
    }
    assert {call: number for call, number in listed.items() if numbers.get(call) != number} == {}
