// The pictures in the list, drawn on the rows' canvases: one small picture of each film's storyboard, and music's covers.

import { fetchThumbnails } from "../controls/thumbnailtrack.js";

const AT_ONCE = 2;
const MOST_WAITING = 60;
const MOST_KEPT = 200;
const TIMEOUT_MS = 30_000;
const AGAIN_MS = 15_000;
const MOST_COVER_BYTES = 8_000_000;
const COVER_PIXELS = 180;
/** How far into the film its picture is taken: behind the titles, and before anything is given away. */
const SHARE = 0.2;

export class Posters {
  #kept = new Map();
  #waiting = new Map();
  #loading = new Map();

  /**
   * Draws a film's picture when there is one; `address` is that of its thumbnails or cover, null for none. Called each time
   * that the row is drawn, so that a picture that had no room among those that wait, or failed, is wanted again.
   */
  show(canvas, address) {
    if ((canvas.dataset.poster ?? "") !== (address ?? "")) {
      clear(canvas);
      if (address) canvas.dataset.poster = address;
      else delete canvas.dataset.poster;
    }
    if (!address || canvas.classList.contains("drawn")) return;
    if (this.#kept.has(address)) {
      draw(canvas, this.#kept.get(address));
      return;
    }
    if (this.#loading.has(address)) {
      // The row that it was loaded for may be gone, and this one in its place.
      this.#loading.set(address, canvas);
      return;
    }
    // The picture that was wanted last comes first: somebody looks at its row now.
    this.#waiting.delete(address);
    this.#waiting.set(address, canvas);
    if (this.#waiting.size > MOST_WAITING) this.#waiting.delete(this.#waiting.keys().next().value);
    this.#next();
  }

  #next() {
    while (this.#loading.size < AT_ONCE && this.#waiting.size > 0) {
      const [address, canvas] = [...this.#waiting].at(-1);
      this.#waiting.delete(address);
      if (canvas.isConnected && canvas.dataset.poster === address) this.#load(address, canvas);
    }
  }

  async #load(address, wanting) {
    this.#loading.set(address, wanting);
    const picture = await fetchPicture(address).catch(() => undefined);
    const canvas = this.#loading.get(address);
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
  if (!address.endsWith(".vtt")) return fetchCover(address, signal);
  const cues = await fetchThumbnails(address, signal);
  if (!cues) return undefined;
  // Of the first sprite alone, so that no other one is made for this.
  const first = cues.filter((cue) => cue.sprite === cues[0].sprite);
  const cue = first[Math.min(Math.floor(cues.length * SHARE), first.length - 1)];
  if (!cue) return null;
  const answer = await fetch(cue.sprite, { signal });
  if (!answer.ok) return undefined;
  return createImageBitmap(await answer.blob(), ...cue.place);
}

async function fetchCover(address, signal) {
  const answer = await fetch(address, { signal });
  if (!answer.ok || Number(answer.headers.get("content-length")) > MOST_COVER_BYTES) return answer.status === 503 ? undefined : null;
  return createImageBitmap(await answer.blob(), { resizeHeight: COVER_PIXELS, resizeQuality: "medium" });
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
