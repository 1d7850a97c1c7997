// The controls around the video: title, mode, quality, live edge, statistics and graph.

import { byId, el, say } from "./dom.js";
import { Chapters } from "./chapters.js";
import { Graph } from "./graph.js";
import { levelName, read, show } from "./stats.js";

const REFRESH_MS = 500;
const EDGE_TOLERANCE_S = 1.5;

export class Stage {
  constructor(playback) {
    this.playback = playback;
    this.graph = new Graph(byId("graph"));
    this.chapters = new Chapters(playback.video);
    this.onMode = () => {};
    this.offAir = "";
    byId("modes").addEventListener("change", (event) => this.onMode(event.target.value));
    byId("quality").addEventListener("change", (event) => playback.setLevel(Number(event.target.value)));
    byId("captions").addEventListener("change", (event) => playback.setCaptions(Number(event.target.value)));
    byId("edge").addEventListener("click", () => playback.goToEdge());
    byId("clock").addEventListener("change", (event) => this.#goToTime(event.target.value));
    playback.addEventListener("message", (event) => say(byId("status"), event.detail));
    playback.addEventListener("change", () => {
      this.#levels();
      this.#captions();
    });
    setInterval(() => this.#refresh(), REFRESH_MS);
  }

  /** @param modes which of "file" and "hls" the item offers; nothing to choose with fewer than two */
  present({ title, facts, source, modes }, play) {
    say(byId("title"), title);
    say(byId("facts"), facts);
    byId("modes").hidden = modes.length < 2;
    for (const input of byId("modes").querySelectorAll("input")) input.checked = input.value === source.mode;
    byId("edge").hidden = source.mode !== "live";
    this.offerFile(null);
    this.graph.clear();
    this.chapters.show(source.chapters ?? null);
    this.playback.open(source, play);
  }

  /** Offers a file for download; and to play it anyway, at another address, where the browser says that it can't. */
  offerFile(address, anyway = null) {
    for (const [id, href] of [["download", address], ["anyway", anyway]]) {
      byId(id).hidden = !href;
      if (href) byId(id).href = href;
    }
  }

  /** Scrolls the page so far that the picture is seen, where it isn't. */
  bringIntoView() {
    const { top, bottom } = this.playback.video.getBoundingClientRect();
    if (top >= 0 && bottom <= innerHeight) return;
    const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
    byId("stage").scrollIntoView({ block: "start", behavior });
  }

  /** Says over the picture why there is none, for as long as nothing is there to be shown; "" where it should come. */
  sayOffAir(text) {
    this.offAir = text;
    this.#showOffAir();
  }

  #showOffAir() {
    const { source, video } = this.playback;
    const has = source?.mode === "live" && video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA;
    byId("off-air").hidden = !this.offAir || source?.mode !== "live" || has;
    if (!byId("off-air").hidden) say(byId("off-air"), this.offAir);
  }

  clear(text) {
    this.playback.close();
    say(byId("title"), "Nothing chosen");
    say(byId("facts"), text);
    byId("modes").hidden = true;
    byId("edge").hidden = true;
    byId("clock-box").hidden = true;
    this.offerFile(null);
    this.chapters.show(null);
    this.graph.clear();
  }

  /** Goes to a time of day: the last one that was, within what the channel keeps. */
  #goToTime(text) {
    const { video } = this.playback;
    const now = this.playback.dateAt(video.currentTime);
    if (!text || !now) return;
    const [hours, minutes, seconds = 0] = text.split(":").map(Number);
    const wanted = new Date();
    wanted.setHours(hours, minutes, seconds, 0);
    if (wanted > new Date()) wanted.setDate(wanted.getDate() - 1);
    this.playback.seekTo(video.currentTime + (wanted - now) / 1000);
  }

  #levels() {
    const { hls, source } = this.playback;
    const levels = hls?.levels ?? [];
    byId("idle").hidden = source !== null;
    byId("quality-box").hidden = levels.length < 2;
    const names = levels.map(levelName);
    const playing = hls?.autoLevelEnabled && names[hls.currentLevel];
    const labels = [playing ? `Automatic (${playing})` : "Automatic", ...names];
    offer(byId("quality"), labels, hls && !hls.autoLevelEnabled ? hls.manualLevel : -1);
  }

  #captions() {
    const { names, chosen } = this.playback.captions;
    byId("captions-box").hidden = names.length === 0;
    offer(byId("captions"), ["Off", ...names], chosen);
  }

  #refresh() {
    if (document.hidden || byId("stage").hidden) return;
    this.#showOffAir();
    const stats = read(this.playback);
    show(stats, this.playback.hls?.levels ?? []);
    if (stats.mode) this.graph.push(stats);
    const behind = stats.latency !== null && stats.latency > (stats.targetLatency ?? 0) + EDGE_TOLERANCE_S;
    byId("edge").classList.toggle("at-edge", stats.latency !== null && !behind && !stats.paused);
    const latency = stats.latency === null ? "" : `, ${stats.latency.toFixed(stats.latency < 10 ? 1 : 0)} s`;
    say(byId("edge"), behind || stats.paused ? `Go to live${latency && `${latency} ahead`}` : `Live${latency}`);
    byId("clock-box").hidden = stats.mode !== "live" || !this.playback.dateAt(0);
  }
}

/** Fills a select with labels; their values count up from -1. */
function offer(select, labels, chosen) {
  while (select.options.length > labels.length) select.remove(select.options.length - 1);
  while (select.options.length < labels.length) select.append(el("option", { value: select.options.length - 1 }));
  labels.forEach((label, index) => say(select.options[index], label));
  select.value = String(chosen);
}
