"""Rules for multivariant playlists (RFC 8216bis §4.4.6): attributes, groups, and what must be unique."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from origin.cli.checks.playlist_text import TagLine
from origin.cli.checks.report import Finding

MEDIA_TYPES = ("AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS")
LANGUAGE_TAG = re.compile(
    r"(?:[A-Za-z]{2,3}(?:-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|[0-9]{3}))?"
    r"(?:-(?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(?:-[A-WY-Za-wy-z0-9](?:-[A-Za-z0-9]{2,8})+)*"
    r"(?:-[Xx](?:-[A-Za-z0-9]{1,8})+)?|[Xx](?:-[A-Za-z0-9]{1,8})+|[Ii](?:-[A-Za-z0-9]{2,8})+"
)
"""A language tag (RFC 5646 §2.1)."""

_INSTREAM = re.compile(r"CC[1-4]|SERVICE(?:[1-9]|[1-5][0-9]|6[0-3])")
_RESOLUTION = re.compile(r"[0-9]{1,6}x[0-9]{1,6}")
_RANGES = ("SDR", "HLG", "PQ")

MAX_NUMBER = 1 << 64


@dataclass(frozen=True, slots=True)
class ListedTag:
    """A tag that names a variant stream, an I-frame playlist or a rendition.

    Attributes:
        line: number of the tag's line, from 1.
        uri: of its playlist; empty without one.
    """

    line: int
    attributes: dict[str, str]
    uri: str

    def number(self, name: str) -> int:
        """Return an attribute's decimal integer; 0 without one."""
        text = self.attributes.get(name, "")
        return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else 0


@dataclass(frozen=True, slots=True)
class Multivariant:
    """A multivariant playlist.

    Attributes:
        media: the attributes of each EXT-X-MEDIA, with its line.
    """

    variants: Sequence[ListedTag]
    frames: Sequence[ListedTag]
    media: Sequence[ListedTag]
    independent: bool


def read_multivariant(lines: Sequence[TagLine]) -> Multivariant | None:
    """Read a multivariant playlist; None if it is a media playlist."""
    variants, frames, media = list[ListedTag](), list[ListedTag](), list[ListedTag]()
    pending: TagLine | None = None
    for line in lines:
        told = line.attributes if line.name.startswith("#EXT-X-") else {}
        if line.name == "#EXT-X-STREAM-INF":
            if pending is not None:
                variants.append(ListedTag(pending.number, pending.attributes, ""))
            pending = line
        elif not line.name and pending is not None:
            variants.append(ListedTag(pending.number, pending.attributes, line.value))
            pending = None
        elif line.name == "#EXT-X-I-FRAME-STREAM-INF":
            frames.append(ListedTag(line.number, told, told.get("URI", "")))
        elif line.name == "#EXT-X-MEDIA":
            media.append(ListedTag(line.number, told, told.get("URI", "")))
    if pending is not None:
        variants.append(ListedTag(pending.number, pending.attributes, ""))
    if not variants and not frames and not media:
        return None
    independent = any(line.name == "#EXT-X-INDEPENDENT-SEGMENTS" for line in lines)
    return Multivariant(variants, frames, media, independent)


def multivariant_findings(playlist: Multivariant) -> Iterator[Finding]:
    """Find faults that show in the playlist alone."""
    for one in playlist.media:
        yield from _media_findings(one)
    yield from _group_findings(playlist.media)
    if not playlist.variants:
        yield Finding("has no EXT-X-STREAM-INF, one at least is right (RFC 8216bis §4.4.6.2)")
    groups = {(one.attributes.get("TYPE"), one.attributes.get("GROUP-ID")) for one in playlist.media}
    for variant in playlist.variants:
        yield from _variant_findings(variant, groups)
    for variant in playlist.frames:
        where = f"line {variant.line}: EXT-X-I-FRAME-STREAM-INF"
        if not variant.uri:
            yield Finding(f"{where} has no URI, which it must have (RFC 8216bis §4.4.6.3)")
        if not variant.number("BANDWIDTH"):
            yield Finding(f"{where} has no BANDWIDTH in bits per second (RFC 8216bis §4.4.6.2)")
    captions = {one.attributes.get("CLOSED-CAPTIONS") for one in playlist.variants}
    if "NONE" in captions and len(captions) > 1:
        found = "some variants have CLOSED-CAPTIONS=NONE and others haven't"
        yield Finding(f"{found}: all or none are right (RFC 8216bis §4.4.6.2)")


def _media_findings(media: ListedTag) -> Iterator[Finding]:
    """Find faults of an EXT-X-MEDIA (§4.4.6.1)."""
    where, told, clause = f"line {media.line}: EXT-X-MEDIA", media.attributes, "(RFC 8216bis §4.4.6.1)"
    kind = told.get("TYPE", "")
    for name in ("TYPE", "GROUP-ID", "NAME"):
        if not told.get(name):
            yield Finding(f"{where} has no {name}, which it must have {clause}")
    if kind and kind not in MEDIA_TYPES:
        yield Finding(f"{where} has TYPE={kind}, where {', '.join(MEDIA_TYPES)} are right {clause}")
    yield from _kind_findings(media, kind, where, clause)
    if told.get("DEFAULT") == "YES" and told.get("AUTOSELECT", "YES") != "YES":
        yield Finding(f"{where} has DEFAULT=YES and AUTOSELECT=NO: AUTOSELECT=YES is right {clause}")
    for name in ("DEFAULT", "AUTOSELECT", "FORCED"):
        if told.get(name, "NO") not in ("YES", "NO"):
            yield Finding(f"{where} has {name}={told[name]}, where YES or NO is right {clause}")
    for name in ("LANGUAGE", "ASSOC-LANGUAGE"):
        if name in told and not LANGUAGE_TAG.fullmatch(told[name]):
            found = f"{name}={told[name]!r}, which is no language tag such as en-US"
            yield Finding(f"{where} has {found} (RFC 8216bis §4.4.6.1, RFC 5646 §2.1)")


def _kind_findings(media: ListedTag, kind: str, where: str, clause: str) -> Iterator[Finding]:
    """Find attributes that renditions of a kind must have or mustn't."""
    told = media.attributes
    if kind == "CLOSED-CAPTIONS":
        if media.uri:
            yield Finding(f"{where} of CLOSED-CAPTIONS has a URI, none is right {clause}")
        if not _INSTREAM.fullmatch(told.get("INSTREAM-ID", "")):
            found = told.get("INSTREAM-ID", "no INSTREAM-ID")
            yield Finding(f"{where} has {found}, where CC1 to CC4 or SERVICE1 to SERVICE63 is right {clause}")
    elif "INSTREAM-ID" in told:
        yield Finding(f"{where} of {kind} has INSTREAM-ID, which CLOSED-CAPTIONS alone have {clause}")
    if kind == "SUBTITLES" and not media.uri:
        yield Finding(f"{where} of SUBTITLES has no URI, which it must have {clause}")
    if "FORCED" in told and kind != "SUBTITLES":
        yield Finding(f"{where} of {kind} has FORCED, which SUBTITLES alone have {clause}")


def _group_findings(media: Sequence[ListedTag]) -> Iterator[Finding]:
    """Find faults of groups of renditions (§4.4.6.1.1)."""
    groups: dict[tuple[str | None, str | None], list[ListedTag]] = {}
    for one in media:
        groups.setdefault((one.attributes.get("TYPE"), one.attributes.get("GROUP-ID")), []).append(one)
    for (kind, name), members in groups.items():
        where, names = f"group {name!r} of {kind}", [one.attributes.get("NAME") for one in members]
        for twice in {one for one in names if names.count(one) > 1 and one}:
            said = f"{where} has NAME={twice!r} {names.count(twice)} times, different names are right"
            yield Finding(f"{said} (RFC 8216bis §4.4.6.1.1)")
        defaults = [one for one in members if one.attributes.get("DEFAULT") == "YES"]
        if len(defaults) > 1:
            lines = " and ".join(str(one.line) for one in defaults)
            said = f"{where} has DEFAULT=YES in lines {lines}, in one at most is right"
            yield Finding(f"{said} (RFC 8216bis §4.4.6.1.1)")


def _variant_findings(variant: ListedTag, groups: set[tuple[str | None, str | None]]) -> Iterator[Finding]:
    """Find faults of an EXT-X-STREAM-INF (§4.4.6.2)."""
    where, told, clause = (
        f"line {variant.line}: EXT-X-STREAM-INF",
        variant.attributes,
        "(RFC 8216bis §4.4.6.2)",
    )
    if not variant.uri:
        yield Finding(f"{where} has no URI in the next line {clause}")
    bandwidth, average = variant.number("BANDWIDTH"), variant.number("AVERAGE-BANDWIDTH")
    if not bandwidth:
        yield Finding(f"{where} has no BANDWIDTH in bits per second, which it must have {clause}")
    elif average > bandwidth:
        found = f"AVERAGE-BANDWIDTH={average} above BANDWIDTH={bandwidth}"
        yield Finding(f"{where} has {found}: no average is above the peak {clause}")
    if "CODECS" not in told:
        yield Finding(f"{where} has no CODECS {clause}", is_must=False)
    if "RESOLUTION" in told and not _RESOLUTION.fullmatch(told["RESOLUTION"]):
        yield Finding(f"{where} has RESOLUTION={told['RESOLUTION']}, where WIDTHxHEIGHT is right {clause}")
    if told.get("VIDEO-RANGE", "SDR") not in _RANGES:
        found = f"VIDEO-RANGE={told['VIDEO-RANGE']}"
        yield Finding(f"{where} has {found}, where {', '.join(_RANGES)} are right {clause}", is_must=False)
    for kind in MEDIA_TYPES:
        group = told.get(kind)
        if group is None or (kind == "CLOSED-CAPTIONS" and group == "NONE"):
            continue
        if (kind, group) not in groups:
            found = f"{kind} group {group!r} isn't there: no EXT-X-MEDIA has it"
            yield Finding(f"{where}: {found} {clause}")
