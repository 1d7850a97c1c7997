"""A channel's slate: what viewers see while nobody publishes, on the same address."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from origin.config.load import validate
from origin.config.warnings import unserved
from tests.origin.ingest.studio import CODING, KEY, encoder_arguments, encoding, studio
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(900)


@pytest.mark.promise("live.offline")
@pytest.mark.clause("While nobody publishes, viewers see the slate on the same address")
@pytest.mark.parametrize(
    ("coding", "takeover"), [(CODING, "replace"), ("-c:v libvpx-vp9 -cpu-used 8 -c:a libopus", "refuse")]
)
def test_the_slate_is_shown_until_somebody_publishes_and_afterwards(
    tmp_path: Path, coding: str, takeover: str
) -> None:
    slate = tmp_path / "slate.mkv"
    source = "-f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=330 -t 3 -g 25"
    subprocess.run(["ffmpeg", "-v", "error", *source.split(), *coding.split(), str(slate)], check=True)
    keys = f'offline = "{slate}"\ntakeover = "{takeover}"\n'
    with studio(tmp_path, more=keys) as one:
        shown = one.wait_for_timeline()
        one.wait_for_state("live")
        arguments = [*encoder_arguments().split(), "-method", "PUT", f"{one.address}?key={KEY}"]
        with encoding(*arguments) as encoder:
            published = one.wait_for_timeline(shown)
            assert encoder.poll() is None
            with encoding(*arguments) as second:
                # By the policy of the channel one of them goes.
                gone = encoder if takeover == "replace" else second
                assert gone.wait(60) is not None
            for process in (encoder, second):
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
        one.wait_for_timeline(published)
        assert len(wait_for(one.server.command_lines, "ffmpegs")) >= 1
    assert "slate can't be shown" not in one.server.text()


def test_a_slate_that_is_not_there_is_said_and_gaps_stand_in_its_place(tmp_path: Path) -> None:
    channel = {"name": "studio", "source": "publish", "offline": str(tmp_path / "nowhere.mp4")}
    (line,) = unserved(validate({"live": [channel]}, "a test"))
    assert "nowhere.mp4" in line
    assert "gaps" in line
    assert not list(unserved(validate({"live": [{**channel, "offline": "gaps"}]}, "a test")))
