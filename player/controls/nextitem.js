// What follows in the folder: at the end of a film it is offered, and begins by itself unless that is cancelled; the
// next track of music begins at once.

import { byId, say } from "../dom.js";

const OFFERED_S = 10;
/** How long before the end the item that follows is looked for. */
const LOOK_BEFORE_S = 15;

export class NextItem {
  #playback;
  #find;
  #begin;
  #next = null;
  #seconds = 0;
  #timer = 0;

  /**
   * @param find returns a promise of the item so many places behind one of a path, or null
   * @param begin plays an item
   */
  constructor(playback, find, begin) {
    this.#playback = playback;
    this.#find = find;
    this.#begin = begin;
    const { video } = playback;
    video.addEventListener("timeupdate", () => video.duration - video.currentTime < LOOK_BEFORE_S && this.#look());
    video.addEventListener("ended", () => this.#onEnded());
    for (const event of ["play", "seeking", "emptied"]) video.addEventListener(event, () => this.#withdraw());
    byId("next-now").addEventListener("click", () => this.#go());
    byId("next-cancel").addEventListener("click", () => {
      this.#withdraw();
      byId("play").focus();
    });
  }

  /** Plays the item so many places on, if there is one. */
  async step(places) {
    const { source } = this.#playback;
    if (!source?.followed) return;
    const item = await this.#find(source.key, places).catch(() => null);
    if (item && source === this.#playback.source) this.#begin(item);
  }

  /** Looks for the next item once for each item, unless it is to be looked for again. */
  #look(again = false) {
    const { source } = this.#playback;
    if (!source?.followed) return null;
    if (again || this.#next?.source !== source) this.#next = { source, found: this.#find(source.key, 1).catch(() => null) };
    return this.#next.found;
  }

  async #onEnded() {
    const { source, video } = this.#playback;
    // Meanwhile the server may have found it: after a start it reads the library.
    const item = (await this.#look()) ?? (await this.#look(true));
    if (!item || source !== this.#playback.source || !video.ended || video.loop) return;
    if (!item.width) {
      this.#begin(item);
      return;
    }
    say(byId("next-name"), item.tags?.title ?? item.name);
    byId("next").hidden = false;
    // Whoever types goes on typing.
    if (document.activeElement === document.body) byId("next-now").focus({ preventScroll: true });
    this.#seconds = OFFERED_S;
    this.#count();
  }

  #count() {
    say(byId("next-seconds"), `in ${this.#seconds} s`);
    if (this.#seconds === 0) this.#go();
    else this.#timer = setTimeout(() => this.#count(), 1000);
    this.#seconds -= 1;
  }

  async #go() {
    this.#withdraw();
    const item = await this.#next.found;
    this.#begin(item);
  }

  #withdraw() {
    clearTimeout(this.#timer);
    byId("next").hidden = true;
  }
}
