// The seek bar below the picture: where a film plays, with a small picture of what is under the pointer; of a channel
// what it keeps, with the time of day.

import { byId, clock } from "./dom.js";
import { fetchThumbnails } from "./thumbnails.js";

const REFRESH_MS = 250;
const STEPS = 1000;
/** A channel that keeps less than this has nothing to go back to. */
const LEAST_DVR_S = 10;
const AT_LIVE_S = 3;

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
      const [start, end] = playback.seekable;
      playback.seekTo(start + (this.range.valueAsNumber / STEPS) * (end - start));
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
    const [start, end] = this.playback.seekable;
    const length = end - start;
    const least = source?.mode === "live" ? LEAST_DVR_S : 0;
    this.bar.hidden = !source || !Number.isFinite(length) || length <= least;
    if (this.bar.hidden || this.range.matches(":active")) return;
    this.range.value = String(((video.currentTime - start) / length) * STEPS);
    this.range.setAttribute("aria-valuetext", this.#describe(video.currentTime, start, end));
  }

  #describe(position, start, end) {
    if (this.playback.source?.mode !== "live") return `${clock(position)} of ${clock(end)}`;
    const time = this.playback.dateAt(position)?.toLocaleTimeString() ?? `${clock(end - position)} ago`;
    return position >= end - AT_LIVE_S ? `${time}, live` : time;
  }

  #show(event) {
    this.#clientX = event.clientX;
    this.#load();
    this.#place();
  }

  #place() {
    const [start, end] = this.playback.seekable;
    const duration = end - start;
    if (!Number.isFinite(duration) || duration <= 0) return;
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
    const isLive = this.playback.source?.mode === "live";
    this.time.textContent = isLive ? this.#describe(start + share * duration, start, end) : clock(share * duration);
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
