"""The record book: what was written is there after any end of the process."""

from __future__ import annotations

import errno
import random
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from packager.record_book import NAME, RecordBook
from packager.safe_files import DataFolder, NotOursError
from tests.waiting import until

WRITER = """
import asyncio, sys
from pathlib import Path
from packager.record_book import RecordBook
from packager.safe_files import DataFolder

async def main():
    book = RecordBook(DataFolder(Path(sys.argv[1])))
    first = int((await book.read("live")).get("number", b"0")) + 1
    for number in range(first, first + 100_000):
        await book.write("live", "number", b"%d" % number)
        print(number, flush=True)

asyncio.run(main())
"""
"""Writes numbers one after another, and says which are written."""


OTHER_PROGRAM = """
import sqlite3, sys
book = sqlite3.connect(sys.argv[1])
book.execute("CREATE TABLE records (something TEXT)")
book.commit()
"""


def book_in(folder: Path) -> RecordBook:
    return RecordBook(DataFolder(folder))


async def test_records_are_there_for_the_next_process(tmp_path: Path) -> None:
    book = book_in(tmp_path / "data")
    assert await book.read("live") == {}
    # A book that was only read leaves no file.
    assert not (tmp_path / "data").exists()
    await book.write("live", "a", b"1")
    await book.write("live", "b", b"2")
    await book.write("radio", "a", b"3")
    await book.write("live", "a", b"4")
    await book.write("live", "b", None)
    await book.write("live", "never", None)
    await book.close()
    after = book_in(tmp_path / "data")
    assert await after.read("live") == {"a": b"4"}
    assert await after.read("radio") == {"a": b"3"}
    assert after.trouble == ""
    await after.close()
    assert stat.S_IMODE((tmp_path / "data" / NAME).stat().st_mode) == 0o600


async def test_what_was_acknowledged_survives_kill_9_at_any_moment(tmp_path: Path) -> None:
    moments, known = random.Random(86), 0
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(moments.randrange(1, 60)):
                known = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            known = max([known, *map(int, writer.stdout.read().split())])
        book = book_in(tmp_path)
        kept = int((await book.read("live"))["number"])
        await book.close()
        # The newest one may be written, and not said yet.
        assert kept in (known, known + 1)
        assert book.trouble == ""
        known = kept


@pytest.mark.parametrize("kind", ["garbage", "torn", "middle", "other table"])
async def test_a_damaged_file_is_set_aside_and_said(tmp_path: Path, kind: str) -> None:
    book = book_in(tmp_path)
    for number in range(400):
        await book.write("live", f"channel-{number}", b"x" * 100)
    await book.close()
    file = tmp_path / NAME
    data = bytearray(file.read_bytes())
    if kind == "garbage":
        data = bytearray(random.Random(1).randbytes(len(data)))
    elif kind == "torn":
        del data[len(data) // 2 :]
    elif kind == "middle":
        data[8192:12288] = random.Random(1).randbytes(4096)
    else:
        file.unlink()
        subprocess.run(
            [
                sys.executable,
                "-c",
                OTHER_PROGRAM,
                str(file),
            ],
            check=True,
        )
        data = bytearray(file.read_bytes())
    file.write_bytes(data)
    book = book_in(tmp_path)
    if kind == "other table":
        # A file that is whole, and another program's.
        with pytest.raises(OSError, match="no such column"):
            await book.write("live", "new", b"1")
        return
    assert await book.read("live") == {}
    assert "aside" in book.trouble
    await book.write("live", "new", b"1")
    assert await book.read("live") == {"new": b"1"}
    assert (tmp_path / "aside" / "1" / NAME).read_bytes() == bytes(data)
    await book.close()


async def test_a_full_book_keeps_what_it_has(tmp_path: Path) -> None:
    book = RecordBook(DataFolder(tmp_path), most_bytes=128 << 10)
    await book.write("live", "small", b"1")
    with pytest.raises(OSError, match="full") as refused:
        await book.write("live", "large", b"x" * (256 << 10))
    assert refused.value.errno == errno.ENOSPC
    assert await book.read("live") == {"small": b"1"}
    await book.write("live", "small", b"2")
    assert await book.read("live") == {"small": b"2"}
    await book.close()


async def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotOursError):
        await book_in(tmp_path / "data").write("live", "a", b"1")
    assert (tmp_path / "elsewhere").read_bytes() == b""


async def test_a_process_waits_for_another_that_writes(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        try:
            writer.stdout.readline()
            book = book_in(tmp_path)
            for number in range(20):
                await book.write("radio", str(number), b"1")
            assert len(await book.read("radio")) == 20
            await book.close()
            await until(lambda: writer.poll() is None, "the other one's going on")
        finally:
            writer.kill()
            writer.stdout.read()
