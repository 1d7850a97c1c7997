"""Firefox by Marionette, its own remote control: JSON in netstrings over TCP (Debian has no geckodriver)."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.processes import end
from tests.waiting import wait_for

PREFERENCES = {
    "marionette.port": 0,
    "media.autoplay.default": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "browser.aboutwelcome.enabled": False,
    "browser.newtabpage.enabled": False,
    "browser.newtabpage.activity-stream.feeds.system.topstories": False,
    "browser.topsites.contile.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "app.normandy.enabled": False,
    "dom.ipc.processPrelaunch.enabled": False,
}
"""Any free port; sound without a click; no talk with others; no pages and processes but what is looked at."""

ANSWER_SECONDS = 240.0


class Firefox:
    """A headless Firefox with one page."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)
        self._file = self._connection.makefile("rwb")
        self._number = 0
        self._receive()
        self._ask("WebDriver:NewSession")

    @classmethod
    @contextlib.contextmanager
    def running(cls, profile: Path, environment: Mapping[str, str]) -> Iterator[Firefox]:
        """Run Firefox until the block ends.

        Args:
            profile: a folder for it that isn't there yet.
            environment: its variables.
        """
        profile.mkdir()
        lines = [f'user_pref("{name}", {json.dumps(value)});' for name, value in PREFERENCES.items()]
        (profile / "user.js").write_text("\n".join(lines))
        program = shutil.which("firefox-esr") or "firefox-esr"
        words = [program, "--headless", "--no-remote", "--marionette", "--profile", str(profile)]
        process = subprocess.Popen(
            words,
            env={**environment, "HOME": str(profile)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = profile / "MarionetteActivePort"
        try:
            found = wait_for(lambda: port.exists() and port.read_text(), "Firefox's port", ANSWER_SECONDS)
            with contextlib.closing(cls(int(found))) as firefox:
                yield firefox
        finally:
            end(process)

    def go(self, url: str) -> None:
        """Load a page."""
        self._ask("WebDriver:Navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """Evaluate a script in the page; give the value of its last statement."""
        words = {"script": "return eval(arguments[0])", "args": [script]}
        return self._ask("WebDriver:ExecuteScript", **words)["value"]

    def value(self, expression: str) -> Any:
        """Give the value of an expression, or what it promises; also on pages whose policy allows no eval."""
        return self._ask("WebDriver:ExecuteScript", script=f"return {expression}", args=[])["value"]

    def resize(self, width: int, height: int) -> None:
        """Make the window this large, in CSS pixels, or as small as it can be."""
        self._ask("WebDriver:SetWindowRect", width=width, height=height)

    def click(self, selector: str) -> None:
        """Click into the middle of an element, as a hand does."""
        found = self._ask("WebDriver:FindElement", using="css selector", value=selector)["value"]
        self._ask("WebDriver:ElementClick", id=next(iter(found.values())))

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        steps = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        keyboard = {"type": "key", "id": "keyboard", "actions": steps}
        self._ask("WebDriver:PerformActions", actions=[keyboard])

    def screenshot(self) -> bytes:
        """Give a PNG of what is seen."""
        taken = self._ask("WebDriver:TakeScreenshot", full=False)["value"]
        return base64.b64decode(taken)

    def close(self) -> None:
        """End the conversation."""
        self._file.close()
        self._connection.close()

    def _ask(self, command: str, **values: Any) -> Any:
        self._number += 1
        message = json.dumps([0, self._number, command, values]).encode()
        self._file.write(b"%d:%b" % (len(message), message))
        self._file.flush()
        _, _, error, answer = self._receive()
        if error is not None:
            raise RuntimeError(f"{command}: {error}")
        return answer

    def _receive(self) -> Any:
        size = b""
        while not size.endswith(b":"):
            size += self._file.read(1)
        return json.loads(self._file.read(int(size[:-1])))
