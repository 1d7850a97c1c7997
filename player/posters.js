// The pictures of the films in the list: one small picture of each film's storyboard, drawn on the row's canvas.

import { fetchThumbnails } from "./thumbnails.js";

const AT_ONCE = 2;
const MOST_WAITING = 60;
const MOST_KEPT = 200;
const TIMEOUT_MS = 30_000;
const AGAIN_MS = 15_000;
/** How far into the film its picture is taken: behind the titles, and before anything is given away. */
const SHARE = 0.2;

export class Posters {
  #kept = new Map();
  #waiting = new Map();
  #loading = new Set();

  /** Draws a film's picture when there is one; `address` is that of its thumbnails, null for none. */
  show(canvas, address) {
    if ((canvas.dataset.poster ?? "") === (address ?? "")) return;
    clear(canvas);
    if (!address) {
      delete canvas.dataset.poster;
      return;
    }
    canvas.dataset.poster = address;
    if (this.#kept.has(address)) {
      draw(canvas, this.#kept.get(address));
      return;
    }
    // What was wanted last comes first: it is what somebody looks at now.
    this.#waiting.delete(address);
    this.#waiting.set(address, canvas);
    if (this.#waiting.size > MOST_WAITING) this.#waiting.delete(this.#waiting.keys().next().value);
    this.#next();
  }

  #next() {
    while (this.#loading.size < AT_ONCE && this.#waiting.size > 0) {
      const [address, canvas] = [...this.#waiting].at(-1);
      this.#waiting.delete(address);
      if (canvas.isConnected && canvas.dataset.poster === address && !this.#loading.has(address)) {
        this.#load(address, canvas);
      }
    }
  }

  async #load(address, canvas) {
    this.#loading.add(address);
    const picture = await fetchPicture(address).catch(() => undefined);
    this.#loading.delete(address);
    this.#kept.set(address, picture ?? null);
    // Try once more later: the server may have been busy.
    if (picture === undefined) setTimeout(() => this.#kept.delete(address), AGAIN_MS);
    if (this.#kept.size > MOST_KEPT) {
      const [oldest, bitmap] = this.#kept.entries().next().value;
      this.#kept.delete(oldest);
      bitmap?.close();
    }
    if (canvas.dataset.poster === address) draw(canvas, picture);
    this.#next();
  }
}

async function fetchPicture(address) {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const cues = await fetchThumbnails(address, signal);
  // Of the first sprite alone, so that no other one is made for this.
  const first = cues.filter((cue) => cue.sprite === cues[0].sprite);
  const cue = first[Math.min(Math.floor(cues.length * SHARE), first.length - 1)];
  if (!cue) return null;
  const answer = await fetch(cue.sprite, { signal });
  if (!answer.ok) return undefined;
  return createImageBitmap(await answer.blob(), ...cue.place);
}

function clear(canvas) {
  canvas.classList.remove("drawn");
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}

/** Draws a picture as large as it fits, whatever its shape. */
function draw(canvas, picture) {
  if (!picture) return;
  const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  canvas.getContext("2d").drawImage(picture, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  canvas.classList.add("drawn");
}
