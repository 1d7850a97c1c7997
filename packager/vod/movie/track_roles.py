"""The purposes of a film's tracks as DASH roles (ISO/IEC 23009-1 §5.8.5.5)."""

from __future__ import annotations

import re

from media.mp4.movie.movie import Track

COMMENTARY, DESCRIPTION, DUB = "commentary", "description", "dub"
INTELLIGIBLE = "enhanced-audio-intelligibility"
CAPTION, FORCED = "caption", "forced-subtitle"

_COMMENTARY = re.compile(
    r"\b(?:commentar(?:y|ies)|kommentare?|commentaires?|comentarios?|commento)\b", re.IGNORECASE
)
_DESCRIPTION = re.compile(
    r"\b(?:(?-i:AD|DVS)|audio ?descri[pç][a-zã]*|described|descriptive|audiodeskription)\b", re.IGNORECASE
)
_CAPTION = re.compile(r"\b(?:sdh|cc|hearing|closed captions)\b", re.IGNORECASE)
_NAMED = ((COMMENTARY, _COMMENTARY), (DESCRIPTION, _DESCRIPTION), (CAPTION, _CAPTION))
"""Words of tracks' names that say a purpose."""


def roles_of(track: Track) -> tuple[str, ...]:
    """Return the roles that the file says, and those that the track's name says."""
    named = [role for role, words in _NAMED if words.search(track.name)]
    roles = dict.fromkeys((*track.roles, *named))
    if track.handler == b"soun" and roles.pop(CAPTION, "") is None:
        # A mix of sound for viewers who hear badly.
        roles[INTELLIGIBLE] = None
    return tuple(roles)


def place_of(track: Track) -> int:
    """Return a track's place among those of its kind: defaults first, commentaries and descriptions last."""
    is_aside = not {COMMENTARY, DESCRIPTION}.isdisjoint(roles_of(track))
    return 2 * is_aside + (not track.enabled)
