"""Listeners of a station: Chromium, and what the page tells of its audio element."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from playwright.sync_api import sync_playwright

from tests.clients.stations import PATIENCE_SECONDS
from tests.e2e.conftest import launching

LISTEN = """
const audio = document.createElement('audio');
document.body.append(audio);
audio.dataset.waits = 0;
audio.addEventListener('playing', () => { audio.dataset.playing = 1; });
audio.addEventListener('waiting', () => { if (audio.dataset.playing) audio.dataset.waits++; });
audio.src = '%s';
audio.play();
"""

FACTS = """(audio => [audio.currentTime, audio.paused, +audio.dataset.waits, performance.now() / 1000])(
  document.querySelector('audio'))"""


@contextlib.contextmanager
def chromium(url: str) -> Iterator[Callable[[str], Any]]:
    """Chromium on the player page; gives what evaluates a script in it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launching())
        page = browser.new_page()
        page.set_default_timeout(1000 * PATIENCE_SECONDS)
        page.goto(url)
        yield page.evaluate
        browser.close()
