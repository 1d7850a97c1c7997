// Which title is heard now. The server sends each title with the media time of its first frame, seconds before it
// is heard, and tells with which media time this connection's audio begins; the element's own clock is the rest.

import { Retry } from "../retry.js";

const MOST_TITLES = 30;
const TOKEN_BYTES = 16;
const ROUNDING_S = 0.001;

/** A name for one listening connection; not randomUUID, which only exists on https pages. */
export function newToken() {
  const bytes = crypto.getRandomValues(new Uint8Array(TOKEN_BYTES));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class NowPlaying {
  #audio;
  #source = null;
  #retry = new Retry(2000);
  #titles = [];
  #places = [];

  constructor(audio) {
    this.#audio = audio;
  }

  /**
   * @param address of the station's events
   * @param query names the listener, with its password where the station needs one
   */
  open(address, query) {
    this.close();
    this.#connect(`${address}?${query}`);
  }

  close() {
    this.#retry.reset();
    this.#source?.close();
    this.#source = null;
    this.#titles = [];
    this.#places = [];
  }

  /** Titles up to the one that is heard now; up to the newest one while the media time is unknown. */
  heard() {
    const now = this.#mediaTime() ?? Infinity;
    return this.#titles.filter((title) => title.media_time <= now + ROUNDING_S);
  }

  #connect(address) {
    const source = new EventSource(address);
    this.#source = source;
    source.addEventListener("open", () => this.#retry.reset());
    source.addEventListener("title", (event) => {
      this.#titles = [...this.#titles, JSON.parse(event.data)].slice(-MOST_TITLES);
    });
    source.addEventListener("reset", () => { this.#titles = []; });
    source.addEventListener("listening", (event) => {
      // Sent again after a reconnection; the first mark of a connection restarts the list.
      const place = JSON.parse(event.data);
      this.#places = [...this.#places.filter((each) => each.position < place.position), place];
    });
    source.addEventListener("error", () => {
      // An EventSource reconnects by itself, except after an error status such as 503.
      if (source === this.#source && source.readyState === EventSource.CLOSED) {
        this.#retry.later(() => this.#connect(address));
      }
    });
  }

  #mediaTime() {
    const now = this.#audio.currentTime;
    const place = this.#places.findLast((each) => each.position <= now);
    return place ? place.media_time + now - place.position : null;
  }
}
