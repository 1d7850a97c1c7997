// What was left before its end, and where: kept in this browser, and offered as a row above the library.

import { clock, el, encodePath, say, syncRows } from "../dom.js";
import { keep, recall } from "../storage.js";

const MOST_KEPT = 40;
const MOST_SHOWN = 12;
const EVERY_S = 5;
/** A film that was left before this has hardly begun. */
const BEGUN_S = 10;
/** From here on nothing but the credits follows. */
const OVER_SHARE = 0.95;
/** Shorter sounds are songs, which begin anew. */
const LONG_SOUND_S = 1200;
const POSTER = { width: 160, height: 90 };

export class ContinueWatching {
  /** The newest first: {path, name, picture, at, duration}, with times in seconds. */
  #left = recall("left", []);
  #item = null;
  #notedAt = 0;
  #rows = new Map();
  #posters;
  #list = el("ul", { "aria-label": "Continue watching" });
  node = el("section", { class: "continue", "aria-label": "Continue watching", hidden: true }, el("h2", {}, "Continue watching"), this.#list);

  constructor(playback, posters) {
    this.playback = playback;
    this.#posters = posters;
    if (!Array.isArray(this.#left)) this.#left = [];
    const { video } = playback;
    video.addEventListener("timeupdate", () => Math.abs(video.currentTime - this.#notedAt) > EVERY_S && this.note());
    for (const event of ["pause", "ended"]) video.addEventListener(event, () => this.note());
    addEventListener("pagehide", () => this.note());
  }

  /** Begins to watch over an item; the one before is noted. */
  follow(item) {
    this.note();
    this.#item = item;
  }

  /** Notes where the item is that plays, or forgets it near its end. */
  note() {
    const { source, video } = this.playback;
    const { currentTime: at, duration } = video;
    const item = this.#item;
    if (!item || source?.key !== item.path || !(at > BEGUN_S) || !Number.isFinite(duration)) return;
    if (!item.width && duration < LONG_SOUND_S) return;
    this.#notedAt = at;
    const others = this.#left.filter((one) => one.path !== item.path);
    const entry = { path: item.path, name: item.tags?.title ?? item.name, picture: item.thumbnails ?? item.cover ?? item.poster, at, duration };
    this.#keep(at > duration * OVER_SHARE ? others : [entry, ...others]);
  }

  /** Where an item goes on, in seconds; 0 for its beginning. */
  positionOf(path) {
    return Number(this.#left.find((one) => one.path === path)?.at) || 0;
  }

  forget(path) {
    this.#keep(this.#left.filter((one) => one.path !== path));
    this.show(!this.node.hidden);
  }

  /** Shows the row where there is something in it; it stays as it is until this is called again, so that nothing jumps. */
  show(isWanted) {
    const shown = this.#left.slice(0, MOST_SHOWN);
    this.node.hidden = !isWanted || shown.length === 0;
    if (this.node.hidden) return;
    syncRows(this.#list, this.#rows, shown, (one) => one.path, (one) => this.#makeCard(one));
    // Pictures are loaded for what is on the page.
    for (const one of shown) this.#posters.show(this.#rows.get(one.path).canvas, one.picture ?? null);
  }

  #keep(left) {
    this.#left = left.slice(0, MOST_KEPT);
    keep("left", this.#left);
  }

  #makeCard({ path }) {
    const name = el("span", { class: "name", dir: "auto" });
    const time = el("span", { class: "quiet" });
    const canvas = el("canvas", { ...POSTER, class: "poster", "aria-hidden": "true" });
    const bar = el("progress", { max: 1, "aria-hidden": "true" });
    const link = el("a", { href: `#library/${encodePath(path)}` }, el("span", { class: "picture" }, canvas, bar), name, time);
    const remove = el("button", { type: "button", class: "remove", click: () => this.forget(path) }, "×");
    return {
      canvas,
      node: el("li", {}, link, remove),
      update: (one) => {
        say(name, one.name);
        say(time, `${clock(one.at)} of ${clock(one.duration)}`);
        bar.value = one.at / one.duration;
        link.title = path;
        remove.setAttribute("aria-label", `Forget ${one.name}`);
      },
    };
  }
}
