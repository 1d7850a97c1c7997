// The instruments beside the player: levels, bandwidth, buffer, latency, frames, requests as a waterfall, and what of
// the film is loaded. Fetched when they are first opened; closed, they hear, draw and count nothing.

import { bits, byId, clock, el, say } from "../dom.js";
import { Exercises } from "./stresstests.js";
import { Graph } from "./graph.js";
import { LoadedMap } from "./loadedmap.js";
import { levelName, read } from "./stats.js";
import { Waterfall } from "./waterfall.js";

const REFRESH_MS = 500;
const GAUGES = { level: "Level", bandwidth: "Bandwidth", buffer: "Buffer", latency: "Latency", frames: "Frames" };

export class Instruments {
  #playback;
  #timer = 0;
  #gauges = new Map();
  #graph = new Graph();
  #waterfall = new Waterfall();
  #map;
  #ladder = el("ol", { class: "ladder", "aria-label": "Levels" });
  #url = null;

  constructor(playback) {
    this.#playback = playback;
    this.#map = new LoadedMap(playback);
    const gauges = Object.entries(GAUGES).map(([name, label]) => {
      const gauge = { value: el("dd", {}, "–"), more: el("dd", { class: "more" }) };
      this.#gauges.set(name, gauge);
      return el("div", {}, el("dt", {}, label), gauge.value, gauge.more);
    });
    byId("instruments").append(
      el("dl", { class: "gauges", "aria-label": "Playback now" }, ...gauges),
      this.#graph.node,
      el("div", { class: "instrument" }, el("h3", {}, "Levels"), this.#ladder),
      this.#map.node,
      this.#waterfall.node,
      new Exercises(playback).node,
    );
  }

  get isOpen() {
    return this.#timer !== 0;
  }

  open() {
    byId("instruments").hidden = false;
    this.#waterfall.listen();
    this.#timer = setInterval(() => this.#refresh(), REFRESH_MS);
    this.#refresh();
  }

  close() {
    byId("instruments").hidden = true;
    clearInterval(this.#timer);
    this.#timer = 0;
    this.#waterfall.stop();
  }

  #refresh() {
    if (document.hidden || byId("stage").hidden) return;
    const stats = read(this.#playback);
    if (stats.url !== this.#url) {
      this.#url = stats.url;
      this.#graph.clear();
      this.#map.clear();
      this.#waterfall.clear();
    }
    this.#showGauges(stats);
    this.#showLadder(stats);
    if (stats.mode) this.#graph.push(stats);
    this.#map.draw();
    this.#waterfall.draw();
  }

  #showGauges(stats) {
    const level = this.#playback.engine?.levels[stats.level];
    this.#gauge("level", level?.height ? levelName(level) : stats.height ? `${stats.height}p` : "–",
      stats.levelBitrate ? bits(stats.levelBitrate) : stats.width ? `${stats.width} × ${stats.height}` : "");
    this.#gauge("bandwidth", stats.bandwidth === null ? "–" : bits(stats.bandwidth), stats.bandwidth === null ? "" : "estimate");
    this.#gauge("buffer", stats.mode ? seconds(stats.buffer) : "–", stats.mode ? "ahead" : "");
    this.#gauge("latency", stats.latency === null ? "–" : seconds(stats.latency),
      stats.wallLatency === null ? "" : `${stats.wallLatency.toFixed(1)} s by the clock`);
    this.#gauge("frames", stats.decoded ? `${stats.dropped} lost` : "–", stats.decoded ? `of ${stats.decoded}` : "");
    this.#gauges.get("latency").value.parentElement.hidden = !stats.isLive;
  }

  #gauge(name, value, more) {
    const gauge = this.#gauges.get(name);
    say(gauge.value, value);
    say(gauge.more, more);
  }

  #showLadder({ level, automatic }) {
    const levels = this.#playback.engine?.levels ?? [];
    this.#ladder.parentElement.hidden = levels.length < 2;
    while (this.#ladder.children.length > levels.length) this.#ladder.lastElementChild.remove();
    while (this.#ladder.children.length < levels.length) this.#ladder.append(el("li", {}, el("span", {}), el("span", { class: "quiet" })));
    levels.forEach((one, index) => {
      const row = this.#ladder.children[index];
      if (index === level) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
      say(row.firstChild, levelName(one));
      say(row.lastChild, index === level ? `${bits(one.bitrate)}, ${automatic ? "chosen by the player" : "chosen by hand"}` : bits(one.bitrate));
    });
  }
}

const seconds = (value) => (value < 60 ? `${value.toFixed(value < 10 ? 1 : 0)} s` : clock(value));
