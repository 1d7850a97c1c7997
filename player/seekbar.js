// The seek bar below the picture of a film: where it plays, and a small picture of what is under the pointer.

import { byId, clock } from "./dom.js";
import { fetchThumbnails } from "./thumbnails.js";

const REFRESH_MS = 250;
const STEPS = 1000;

export class SeekBar {
  #cues = null;
  #loading = null;
  #clientX = 0;

  constructor(playback) {
    this.playback = playback;
    this.bar = byId("seek");
    this.range = byId("seek-range");
    this.tip = byId("seek-tip");
    this.picture = byId("seek-picture");
    this.time = byId("seek-time");
    this.range.max = STEPS;
    this.range.addEventListener("input", () => {
      playback.video.currentTime = (this.range.valueAsNumber / STEPS) * playback.video.duration;
    });
    this.bar.addEventListener("pointermove", (event) => this.#show(event));
    this.bar.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    playback.addEventListener("change", () => this.#reset());
    setInterval(() => this.#refresh(), REFRESH_MS);
  }

  #reset() {
    if (this.#loading === this.playback.source?.thumbnails) return;
    this.#loading = null;
    this.#cues = null;
    this.tip.hidden = true;
  }

  #refresh() {
    const { video, source } = this.playback;
    this.bar.hidden = !source || source.mode === "live" || !Number.isFinite(video.duration);
    if (this.bar.hidden || this.range.matches(":active")) return;
    this.range.value = String((video.currentTime / video.duration) * STEPS);
    this.range.setAttribute("aria-valuetext", `${clock(video.currentTime)} of ${clock(video.duration)}`);
  }

  #show(event) {
    this.#clientX = event.clientX;
    this.#load();
    this.#place();
  }

  #place() {
    const { duration } = this.playback.video;
    if (!Number.isFinite(duration)) return;
    const box = this.range.getBoundingClientRect();
    const share = Math.min(Math.max((this.#clientX - box.left) / box.width, 0), 1);
    const cue = this.#cues?.find((each) => share * duration < each.end) ?? this.#cues?.at(-1);
    this.picture.hidden = !cue;
    if (cue) {
      const [x, y, width, height] = cue.place;
      Object.assign(this.picture.style, {
        width: `${width}px`, height: `${height}px`,
        backgroundImage: `url("${cue.sprite}")`, backgroundPosition: `${-x}px ${-y}px`,
      });
    }
    this.time.textContent = clock(share * duration);
    this.tip.hidden = false;
    const half = this.tip.offsetWidth / 2;
    const within = Math.min(Math.max(share * box.width, half), box.width - half);
    this.tip.style.left = `${box.left - this.bar.getBoundingClientRect().left + within}px`;
  }

  /** Fetches where the small pictures are, when somebody first wants to see one: they are made only then. */
  async #load() {
    const address = this.playback.source?.thumbnails;
    if (!address || this.#loading === address) return;
    this.#loading = address;
    const cues = await fetchThumbnails(address);
    if (this.#loading !== address) return;
    this.#cues = cues;
    if (!this.tip.hidden) this.#place();
  }
}
