"""Rules for the text of DASH manifests: what ISO/IEC 23009-1 makes mandatory, and what must be unique."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from xml.etree import ElementTree

from origin.cli.checks.manifest_reader import MAX_REPRESENTATIONS, NAMESPACE
from origin.cli.checks.multivariant_rules import LANGUAGE_TAG
from origin.cli.checks.report import Finding

_DURATION = re.compile(r"P(?=.)(?:\d+Y)?(?:\d+M)?(?:\d+D)?(?:T(?=.)(?:\d+H)?(?:\d+M)?(?:\d+(?:\.\d+)?S)?)?")
_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:\s*;.*)?")
_DURATIONS = ("mediaPresentationDuration", "minBufferTime", "minimumUpdatePeriod", "timeShiftBufferDepth")


def manifest_findings(root: ElementTree.Element) -> Iterator[Finding]:
    """Find faults that show in the manifest alone."""
    clause = "(ISO/IEC 23009-1 §5.3.1.2)"
    periods = root.findall(f"{NAMESPACE}Period")
    for name in ("profiles", "minBufferTime"):
        if not root.get(name):
            yield Finding(f"MPD has no {name}, which it must have {clause}")
    for name in _DURATIONS:
        if name in root.attrib and not _DURATION.fullmatch(root.attrib[name]):
            yield Finding(
                f"MPD has {name}={root.attrib[name]!r}, where a duration such as PT2S is right {clause}"
            )
    kind = root.get("type", "static")
    if kind not in ("static", "dynamic"):
        yield Finding(f"MPD has type={kind!r}, where static or dynamic is right {clause}")
    if kind == "dynamic" and not root.get("publishTime"):
        yield Finding(f"MPD of type dynamic has no publishTime, which it must have {clause}")
    ends = "mediaPresentationDuration" in root.attrib or (periods and "duration" in periods[-1].attrib)
    if kind == "static" and not ends:
        said = "MPD of type static has no mediaPresentationDuration, and its last Period no duration"
        yield Finding(f"{said}: either is right {clause}")
    if not periods:
        yield Finding("MPD has no Period, one at least is right (ISO/IEC 23009-1 §5.3.2)")
    for period in periods[:MAX_REPRESENTATIONS]:
        yield from _period_findings(period)


def _period_findings(period: ElementTree.Element) -> Iterator[Finding]:
    names = list[str]()
    for one in period.findall(f"{NAMESPACE}AdaptationSet")[:MAX_REPRESENTATIONS]:
        language = one.get("lang")
        if language is not None and not LANGUAGE_TAG.fullmatch(language):
            said = f"AdaptationSet has lang={language!r}, which is no language tag such as en-US"
            yield Finding(f"{said} (ISO/IEC 23009-1 §5.3.3.2, RFC 5646 §2.1)")
        for representation in one.findall(f"{NAMESPACE}Representation")[:MAX_REPRESENTATIONS]:
            names.append(representation.get("id", ""))
            yield from _representation_findings(representation, {**one.attrib, **representation.attrib})
    for name, count in Counter(names).items():
        if count > 1 and name:
            said = f"{count} representations of a period have id={name!r}, different ones are right"
            yield Finding(f"{said} (ISO/IEC 23009-1 §5.3.5.2)")


def _representation_findings(one: ElementTree.Element, told: dict[str, str]) -> Iterator[Finding]:
    where, clause = f"representation {one.get('id', '')!r}", "(ISO/IEC 23009-1 §5.3.5.2)"
    if not one.get("id"):
        yield Finding(f"{where} has no id, which it must have {clause}")
    if not re.fullmatch(r"[1-9][0-9]{0,12}", one.get("bandwidth", "")):
        found = f"bandwidth={one.get('bandwidth')!r}" if "bandwidth" in one.attrib else "no bandwidth"
        yield Finding(f"{where} has {found}, where bits per second are right {clause}")
    kind = told.get("mimeType", "")
    if not _TYPE.fullmatch(kind):
        found = f"mimeType={kind!r}" if kind else "no mimeType, nor has its AdaptationSet"
        yield Finding(f"{where} has {found}: such as video/mp4 is right (ISO/IEC 23009-1 §5.3.7.2)")
