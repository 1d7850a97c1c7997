"""A cache of playlists, manifests and init segments, which every viewer of a title asks for.

As with open files, an answer is valid for a short time, after which one request looks the title up again. So
a file that is replaced or removed is noticed as soon, whichever files an answer is made of.
"""

from __future__ import annotations

import operator
import time
from dataclasses import dataclass, field
from typing import NamedTuple

from origin.answers.reply import Reply
from origin.vod.cache_control import Lifetime
from origin.vod.segment_cache import VodCacheLimits
from packager.bounded_dict import SizedDict


class Content(NamedTuple):
    """The content of an address other than segments and I-frames of films.

    Attributes:
        lifetime: for how long caches may keep it.
        is_text: whether it is sent compressed to clients that accept that.
        is_kept: whether many viewers of a film ask for the same content, so that the cache keeps it.
    """

    data: bytes
    media_type: str
    lifetime: Lifetime
    is_text: bool = True
    is_kept: bool = True


@dataclass(slots=True)
class CachedContent:
    """A content in the cache.

    Attributes:
        renewed_from: from when one request makes it again, by the monotonic clock.
        valid_until: when it must have been made again, by the monotonic clock.
        replies: the replies to plain requests from memory, by whether the content is compressed.
    """

    content: Content
    nbytes: int
    renewed_from: float
    valid_until: float
    is_being_renewed: bool = False
    replies: dict[bool, Reply] = field(default_factory=dict)


class AnswerCache:
    """The latest answers to requests, by the requests' targets.

    Args:
        limits: limits of the cache; the answers that were longest without a request go first.
    """

    def __init__(self, limits: VodCacheLimits | None = None) -> None:
        self._limits = limits or VodCacheLimits()
        self._entries = SizedDict[bytes, CachedContent](
            self._limits.answers, self._limits.answer_bytes, operator.attrgetter("nbytes")
        )

    def find(self, target: bytes) -> CachedContent | None:
        """Find a valid answer; None where it is to be made, while there is still a valid one for one request.

        Args:
            target: path and query of the request.
        """
        entry = self._entries.get(target)
        if entry is None:
            return None
        now = time.monotonic()
        if now >= entry.valid_until:
            del self._entries[target]
            return None
        if now >= entry.renewed_from and not entry.is_being_renewed:
            entry.is_being_renewed = True
            return None
        return self._entries.use(target)

    def keep(self, target: bytes, content: Content) -> None:
        """Cache an answer that was just made and is worth it.

        Args:
            target: path and query of the request.
        """
        limits = self._limits
        entry = self._entries.get(target)
        if entry is not None and entry.content is content:
            return  # another request has waited for the same
        self._entries.pop(target, None)
        size = len(target) + len(content.data)
        if not content.is_kept or size > limits.answer_bytes or not limits.answers:
            return
        # The time of its making doesn't count: that could be longer than the validity.
        made, seconds = time.monotonic(), limits.valid_seconds
        self._entries[target] = CachedContent(content, size, made + seconds / 2, made + seconds)
