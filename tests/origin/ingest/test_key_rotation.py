"""A channel's key is changed while the server runs."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.origin.ingest.studio import KEY, encoder_arguments, encoding, studio
from tests.patience import CLIENT_SECONDS
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

OTHER_KEY = "of-tomorrow-51e0"


@pytest.mark.clause("A channel's key is changed without a restart")
def test_another_key_is_valid_after_sighup_and_the_former_one_is_not(tmp_path: Path) -> None:
    with studio(tmp_path) as one:
        arguments = [*encoder_arguments().split(), "-method", "PUT"]
        with encoding(*arguments, f"{one.address}?key={KEY}") as encoder:
            one.wait_for_state("live")
            config = tmp_path / "headwater.toml"
            config.write_text(config.read_text().replace(KEY, OTHER_KEY))
            one.server.process.send_signal(signal.SIGHUP)
            assert encoder.wait(CLIENT_SECONDS) is not None
        one.wait_for_state("idle")
        wait_for(lambda: "needs_restart=nothing" in one.server.text(), "the log")
        assert one.client.put(f"{one.address}?key={KEY}", content=b"x").status_code == 401
        assert one.client.put(f"{one.address}?key={OTHER_KEY}", content=b"x").status_code == 415
        with encoding(*arguments, f"{one.address}?key={OTHER_KEY}"):
            one.wait_for_state("live")
        text = one.server.text()
        assert KEY not in text
        assert OTHER_KEY not in text
