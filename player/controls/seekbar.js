// The seek bar below the picture: where a film plays, what of it is loaded, where its chapters begin, and a small
// picture of what is under the pointer; of a channel what it keeps, with the time of day.

import { byId, clock } from "../dom.js";
import { PAST_WIDTH, REST_MS, fetchThumbnails, pastPicture } from "./thumbnailtrack.js";

const AGAIN_MS = 3000;

const REFRESH_MS = 250;
const STEPS = 1000;
/** A channel that keeps less than this has nothing to go back to. */
const LEAST_DVR_S = 10;
const AT_LIVE_S = 3;
const WIDTH = 1000;

export class SeekBar {
  #cues = null;
  #loading = null;
  #clientX = 0;
  #rest = 0;

  /** @param chapters of what plays: {starts, titleAt(seconds)} */
  constructor(playback, chapters) {
    this.playback = playback;
    this.chapters = chapters;
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
    const least = source?.isLive ? LEAST_DVR_S : 0;
    this.bar.hidden = !source || !Number.isFinite(length) || length <= least;
    if (this.bar.hidden || this.range.matches(":active")) return;
    this.range.value = String(((video.currentTime - start) / length) * STEPS);
    this.range.setAttribute("aria-valuetext", this.#describe(video.currentTime, start, end));
    this.#draw(start, length);
  }

  /** Draws what is loaded, what was played, and where chapters begin, a thousand wide. */
  #draw(start, length) {
    const { video } = this.playback;
    const x = (time) => (WIDTH * Math.min(Math.max((time - start) / length, 0), 1)).toFixed(1);
    const loaded = timesOf(video.buffered).map(([from, to]) => `M${x(from)} 0H${x(to)}V10H${x(from)}Z`);
    draw("seek-loaded", loaded.join(""));
    draw("seek-played", `M0 0H${x(video.currentTime)}V10H0Z`);
    draw("seek-chapters", this.chapters.starts.filter((time) => time > start).map((time) => `M${x(time)} 0V10`).join(""));
  }

  #describe(position, start, end) {
    if (!this.playback.source?.isLive) return `${clock(position)} of ${clock(end)}`;
    const time = this.playback.dateAt(position)?.toLocaleTimeString() ?? `${clock(end - position)} ago`;
    return position >= end - AT_LIVE_S && this.playback.hasEdge ? `${time}, live` : time;
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
    const box = this.bar.getBoundingClientRect();
    const share = Math.min(Math.max((this.#clientX - box.left) / box.width, 0), 1);
    const date = this.playback.source?.past && this.playback.dateAt(start + share * duration);
    const cue = this.#cues?.find((each) => share * duration < each.end) ?? this.#cues?.at(-1);
    this.picture.hidden = !cue && !date;
    if (date) this.#placePast(date.getTime() / 1000);
    else if (cue) this.#placePicture(cue.sprite, cue.place);
    const isLive = this.playback.source?.isLive;
    const time = isLive ? this.#describe(start + share * duration, start, end) : clock(share * duration);
    this.time.textContent = [time, this.chapters.titleAt(start + share * duration)].filter(Boolean).join(" · ");
    this.tip.hidden = false;
    const half = this.tip.offsetWidth / 2;
    const within = Math.min(Math.max(share * box.width, half), box.width - half);
    this.tip.style.left = `${within}px`;
  }

  #placePicture(address, [x, y, width, height]) {
    Object.assign(this.picture.style, {
      width: `${width}px`, height: `${height}px`,
      backgroundImage: `url("${address}")`, backgroundPosition: `${-x}px ${-y}px`,
    });
  }

  /** Shows the picture of a channel's moment once the pointer rests: each is an address of its own. */
  #placePast(seconds) {
    const { videoWidth, videoHeight } = this.playback.video;
    const height = videoWidth ? Math.round((PAST_WIDTH * videoHeight) / videoWidth) : 0;
    Object.assign(this.picture.style, { width: `${PAST_WIDTH}px`, height: `${height}px` });
    clearTimeout(this.#rest);
    const { past } = this.playback.source;
    this.#rest = setTimeout(() => {
      if (!this.tip.hidden) this.#placePicture(pastPicture(past, seconds), [0, 0, PAST_WIDTH, height]);
    }, REST_MS);
  }

  /** Fetches where the small pictures are, when somebody first wants to see one: they are made only then. */
  async #load() {
    const address = this.playback.source?.thumbnails;
    if (!address || this.#loading === address) return;
    this.#loading = address;
    const cues = await fetchThumbnails(address);
    if (this.#loading !== address) return;
    // Where that can't be told now, who points there later asks again.
    if (!cues) setTimeout(() => { if (this.#loading === address) this.#loading = null; }, AGAIN_MS);
    this.#cues = cues ?? [];
    if (!this.tip.hidden) this.#place();
  }
}

/** TimeRanges as a list of [start, end] in seconds. */
export const timesOf = (ranges) => Array.from({ length: ranges.length }, (_, index) => [ranges.start(index), ranges.end(index)]);

function draw(id, path) {
  if (byId(id).getAttribute("d") !== path) byId(id).setAttribute("d", path);
}
