"""Types a text on the demo's event channel, word by word, as the answer of a language model would come."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator

from origin.events.channel import EventChannel
from origin.server.services.limits import ServerLimits

CHANNEL = "demo"
"""Name of the event channel that the demo adds."""

TEXTS = (
    """\
This text comes in pieces, as the answer of a language model does. Each word is an event of its own, and \
everybody who reads this channel gets the same ones: a browser, curl, a script.""",
    """\
Who comes late gets what was kept, and then what comes. Press Stop, wait for a few words, and go on: \
nothing is lost and nothing comes twice, because a reader says which event it had last.""",
    """\
The channel also tells which title plays at the station, and how many watch the live channel. Play one of \
them in another window, and see what comes here.""",
)

_WORDS = re.compile(r"\S+\s*")


class DemoText:
    """Types while somebody reads; without readers it costs nothing.

    Args:
        channel: where the words are published, as events of type ``token``; ``token-end`` ends a text.
    """

    name = "demo text"

    def __init__(self, channel: EventChannel, limits: ServerLimits) -> None:
        self._channel = channel
        self._limits = limits

    async def run(self) -> None:
        """Type one text after the other until cancelled."""
        texts = itertools.cycle(TEXTS)
        while True:
            if self._channel.readers:
                await self._channel.publish_from(self._words(next(texts)), "token")
                self._channel.publish("token-end", {})
                await asyncio.sleep(self._limits.text_pause_seconds)
            await asyncio.sleep(self._limits.text_look_seconds)

    async def _words(self, text: str) -> AsyncIterator[str]:
        for word in _WORDS.findall(text):
            yield word
            await asyncio.sleep(self._limits.word_seconds)
