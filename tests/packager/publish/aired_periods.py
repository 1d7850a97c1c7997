"""A channel on air whose manifest has several periods."""

from __future__ import annotations

from fractions import Fraction
from xml.etree import ElementTree

from media.mp4.boxes import box
from media.mp4.codecs.sample_entry import SampleEntry
from media.mp4.fragments.fragments import write_fragment
from media.mp4.fragments.init_segment import write_init_segment
from media.mp4.fragments.moof import Sample
from media.mp4.movie.track_box import TrackFacts
from packager.publish.dash import LiveManifest
from packager.window.aligned_windows import AlignedWindows
from packager.window.cadence import cadence
from packager.window.model import LivePart, WindowOptions
from packager.window.rendition import Rendition
from packager.window.window import Window
from tests.packager.writers import writer_of

NUMBER = 1_795_000_000
"""Of the first segment; each is a second long, in two parts, and begins at its number's second."""

LONG_AFTER = float(NUMBER + 100_000)

ENTRIES = {
    "240p": SampleEntry(b"avc1", "avc1.42c01f", b"", (), width=1280, height=720),
    "audio": SampleEntry(b"mp4a", "mp4a.40.2", b"", (), channels=2, sample_rate=48_000),
}

SCALE = 1000


class Air:
    """A channel whose parts have a tenth of a second, of which ten are a segment."""

    def __init__(
        self,
        kept: float = 60,
        delay: int = 0,
        names: tuple[str, ...] = tuple(ENTRIES),
        rate: Fraction = Fraction(30),
        scale: int = SCALE,
    ) -> None:
        options = WindowOptions(1, NUMBER, kept)
        self.renditions = {
            name: Rendition(name, Window(options), video=name == "240p", bitrate=100_000) for name in names
        }
        self.aligned = AlignedWindows([writer_of(one.window, name) for name, one in self.renditions.items()])
        self.manifest = LiveManifest(self.renditions, cadence(rate, 1.0, 0.1))
        self.init = write_init_segment(TrackFacts(1, b"vide", scale, box(b"free")))
        self.delay = delay

    def run(
        self, pictures: int, sounds: int, late: Fraction = Fraction(0), behind: Fraction = Fraction(0)
    ) -> None:
        """Let an encoder bring so many parts of each and die.

        Its dates are late by that much, and the sound's behind the picture's.
        """
        for name, parts in (("240p", pictures), ("audio", sounds)):
            if name not in self.renditions:
                continue
            rendition = self.renditions[name]
            window = rendition.window
            begin = window.next_number
            window.begin(self.init, ENTRIES[rendition.name])
            for part in range(parts):
                date = late + (behind if name == "audio" else 0)
                self._publish(window, Fraction(begin) + Fraction(part, 10), date, ends=part % 10 == 9)
        self.aligned.align()

    def _publish(self, window: Window, time: Fraction, late: Fraction, *, ends: bool) -> None:
        sample = Sample(100, 4, composition_offset=self.delay)
        data = write_fragment(
            sequence_number=1,
            track_id=1,
            base_media_decode_time=round(time * SCALE),
            samples=(sample,),
            data=bytes(4),
        )
        shown = time + Fraction(self.delay, SCALE)
        window.append(LivePart(data, Fraction(1, 10), independent=True), shown + late, ends_segment=ends)

    def root(self, now: float = 0.0) -> ElementTree.Element:
        return ElementTree.fromstring(self.manifest.render("", now))
