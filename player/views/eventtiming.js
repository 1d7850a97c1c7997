// The time between events as they arrive: how long it usually is, and a graph of the newest.

import { drawing, line } from "../instruments/graph.js";

const POINTS = 120;
// A logarithmic scale, since gaps are milliseconds between tokens and minutes between songs.
const LEAST_MS = 1;
const DECADES = 5;

export const SCALE = "each line ten times the one below: 10 ms, 100 ms, 1 s, 10 s";

export class Gaps {
  #path;
  #gaps = [];
  #last = null;

  constructor(svg) {
    [this.#path] = drawing(svg, DECADES, "bandwidth");
  }

  clear() {
    this.#gaps = [];
    this.#last = null;
    this.draw();
  }

  /** Begins anew behind a pause that isn't the channel's. */
  interrupt() {
    this.#last = null;
  }

  /** @param at when an event arrived, in milliseconds */
  push(at) {
    if (this.#last !== null) this.#gaps.push(at - this.#last);
    if (this.#gaps.length > POINTS) this.#gaps.shift();
    this.#last = at;
  }

  /** Milliseconds that a share of the newest gaps doesn't exceed; null without any. */
  quantile(share) {
    const sorted = this.#gaps.toSorted((one, other) => one - other);
    return sorted[Math.ceil(share * sorted.length) - 1] ?? null;
  }

  draw() {
    const shares = this.#gaps.map((gap) => Math.log10(Math.max(gap, LEAST_MS) / LEAST_MS) / DECADES);
    this.#path.setAttribute("d", line(shares, POINTS));
  }
}
