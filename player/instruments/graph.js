// One minute of buffer (area, its own scale), bandwidth and level (lines on one scale, so they can be compared).

import { bits, el, say } from "../dom.js";

const SVG = "http://www.w3.org/2000/svg";
const POINTS = 120; // at two a second
const WIDTH = 600;
const HEIGHT = 90;
const HEADROOM = 1.15;
const LEAST_BUFFER_S = 5;
const LEAST_RATE = 100_000;
// Limits the bandwidth shown: on a very fast link the levels would otherwise be flat at the bottom.
const MOST_RATE_IN_LEVELS = 3;

/** Makes an element of a drawing. */
export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Prepares a drawing: rules that part it into `parts` of one height, then paths of these classes, which it returns. */
export function drawing(node, parts, ...classes) {
  node.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  node.setAttribute("preserveAspectRatio", "none");
  const rules = Array.from({ length: parts - 1 }, (_, n) => svg("path", { class: "rule", d: `M0 ${(HEIGHT * (n + 1)) / parts}H${WIDTH}` }));
  const paths = classes.map((name) => svg("path", { class: name }));
  node.append(...rules, ...paths);
  return paths;
}

/** Writes a line through shares of the height, the newest at the right of `points` places; null parts it. */
export function line(shares, points) {
  let path = "";
  let pen = "M";
  shares.forEach((share, index) => {
    if (share === null) {
      pen = "M";
      return;
    }
    const x = (points - shares.length + index) * (WIDTH / (points - 1));
    path += `${pen}${x.toFixed(1)} ${(HEIGHT * (1 - Math.min(1, share))).toFixed(1)}`;
    pen = "L";
  });
  return path;
}

export class Graph {
  #samples = [];
  #bufferKey = el("span", { class: "key buffer" }, "Buffer");
  #rateKey = el("span", { class: "key bandwidth" }, "Bandwidth");

  constructor() {
    const node = svg("svg", { "aria-hidden": "true" });
    [this.buffer, this.level, this.bandwidth] = drawing(node, 4, "buffer", "level", "bandwidth");
    this.node = el("figure", { class: "graph" }, node, el("figcaption", {}, this.#bufferKey, this.#rateKey,
      el("span", { class: "key level" }, "Level"), el("span", { class: "quiet" }, "last 60 s")));
  }

  clear() {
    this.#samples = [];
  }

  push({ buffer, bandwidth, levelBitrate }) {
    this.#samples.push({ buffer, bandwidth, level: levelBitrate });
    if (this.#samples.length > POINTS) this.#samples.shift();
    this.#draw();
  }

  #draw() {
    const bufferTop = this.#top("buffer", LEAST_BUFFER_S);
    const levelTop = this.#top("level", LEAST_RATE);
    const rateTop = Math.min(this.#top("bandwidth", levelTop), MOST_RATE_IN_LEVELS * levelTop);
    say(this.#bufferKey, `Buffer (to ${Math.round(bufferTop)} s)`);
    say(this.#rateKey, `Bandwidth (to ${bits(rateTop)})`);
    const area = this.#line("buffer", bufferTop);
    const first = (POINTS - this.#samples.length) * (WIDTH / (POINTS - 1));
    this.buffer.setAttribute("d", area && `${area}L${WIDTH} ${HEIGHT}L${first} ${HEIGHT}Z`);
    this.bandwidth.setAttribute("d", this.#line("bandwidth", rateTop));
    this.level.setAttribute("d", this.#line("level", rateTop));
  }

  #top(name, least) {
    return Math.max(least, HEADROOM * Math.max(...this.#samples.map((sample) => sample[name] ?? 0)));
  }

  #line(name, top) {
    return line(this.#samples.map((sample) => (sample[name] === null ? null : sample[name] / top)), POINTS);
  }
}
