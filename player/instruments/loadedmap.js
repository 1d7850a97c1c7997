// A map of the film from its begin to its end, or of what a channel keeps: what was ever loaded since the map is open,
// what is in the buffer now, and what was played.

import { clock, el, say } from "../dom.js";
import { timesOf } from "../controls/seekbar.js";
import { svg } from "./graph.js";

const WIDTH = 600;
const LANE = 10;
const MOST_PIECES = 200;
/** Pieces that are no farther apart are one. */
const SAME_S = 0.25;
const LANES = ["fetched", "buffered", "played"];

export class LoadedMap {
  #playback;
  #fetched = [];
  #paths;
  #needle = svg("path", { class: "needle" });
  #ends = el("span", { class: "quiet" });

  constructor(playback) {
    this.#playback = playback;
    this.#paths = LANES.map((name) => svg("path", { class: name }));
    const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${LANE * LANES.length}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    drawing.append(...this.#paths, this.#needle);
    this.node = el("figure", { class: "instrument map" }, el("h3", {}, "What is loaded"), drawing,
      el("figcaption", {}, el("span", { class: "key fetched" }, "ever"), el("span", { class: "key buffered" }, "in the buffer"),
        el("span", { class: "key played" }, "played"), this.#ends));
  }

  clear() {
    this.#fetched = [];
  }

  draw() {
    const { video } = this.#playback;
    const [start, end] = this.#playback.seekable;
    if (!(end > start) || !Number.isFinite(end)) return;
    const buffered = timesOf(video.buffered);
    this.#fetched = union([...this.#fetched, ...buffered]).filter(([, to]) => to > start).slice(-MOST_PIECES);
    const x = (time) => (WIDTH * Math.min(Math.max((time - start) / (end - start), 0), 1)).toFixed(1);
    [this.#fetched, buffered, timesOf(video.played)].forEach((pieces, lane) => {
      const [top, bottom] = [lane * LANE + 1, lane * LANE + LANE - 1];
      const path = pieces.map(([from, to]) => `M${x(from)} ${top}H${x(to)}V${bottom}H${x(from)}Z`).join("");
      this.#paths[lane].setAttribute("d", path);
    });
    this.#needle.setAttribute("d", `M${x(video.currentTime)} 0V${LANE * LANES.length}`);
    say(this.#ends, this.#playback.source?.isLive ? `${clock(end - start)} kept` : `${clock(start)} to ${clock(end)}`);
  }
}

/** Pieces in order of time, of which none touches another. */
function union(pieces) {
  const merged = [];
  for (const [from, to] of pieces.sort(([one], [other]) => one - other)) {
    const last = merged.at(-1);
    if (last && from <= last[1] + SAME_S) last[1] = Math.max(last[1], to);
    else merged.push([from, to]);
  }
  return merged;
}
