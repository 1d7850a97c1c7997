// The recordings of channels, or of stations: a list, each with its length, its address on the page and its files.

import { bytes, clock, el, encodePath, getPage, marker, nextPage, say, syncRows } from "../dom.js";

/** Adds an item to those of a list; where it is among them, its recordings to those that are listed. */
export function withItem(items, item) {
  const listed = items.find(({ name }) => name === item.name);
  if (!listed) return [...items, item];
  const ids = new Set(listed.recordings?.map(({ id }) => id));
  const recordings = [...(listed.recordings ?? []), ...(item.recordings ?? []).filter(({ id }) => !ids.has(id))];
  return items.map((one) => (one === listed ? { ...one, recordings } : one));
}

export class Recordings {
  #section;
  #hasAddress;
  #items = [];
  #rows = new Map();
  #marked = "";
  #list = el("ul", { class: "rows" });
  #listed = [];
  /** Earlier recordings by channel or station, once they were fetched: {recordings, next}, the address of more. */
  #earlier = new Map();
  #more = el("button", { type: "button", hidden: true, click: () => this.#fetchEarlier() }, "Earlier recordings");
  node = el("div", { hidden: true }, el("h2", {}, "Recordings"), this.#list, this.#more);

  /** @param section of the page, in which they play; hasAddress: whether each has a link to its playlist, for other players */
  constructor(section, hasAddress = false) {
    this.#section = section;
    this.#hasAddress = hasAddress;
  }

  /** @param items the channels or stations that have them */
  update(items) {
    this.#listed = items;
    this.#items = items.flatMap((item) => this.#all(item).map((one) => recordingOf(item, one)));
    this.#more.hidden = !items.some((item) => this.#next(item));
    this.node.hidden = this.#items.length === 0;
    syncRows(this.#list, this.#rows, this.#items, (one) => one.key, (one) => this.#makeRow(one));
    this.mark(this.#marked);
  }

  /** An item's recordings, the newest first: those of the list, and earlier ones that were fetched. */
  #all(item) {
    const earlier = this.#earlier.get(item.name)?.recordings ?? [];
    return withItem([item], { ...item, recordings: earlier })[0].recordings ?? [];
  }

  /** Address of an item's recordings that weren't fetched yet; null for none. */
  #next(item) {
    return this.#earlier.has(item.name) ? this.#earlier.get(item.name).next : item.earlier_recordings;
  }

  async #fetchEarlier() {
    const fetched = this.#listed.filter((item) => this.#next(item)).map(async (item) => {
      const { items, headers } = await getPage(this.#next(item));
      const before = this.#earlier.get(item.name)?.recordings ?? [];
      this.#earlier.set(item.name, { recordings: [...before, ...items], next: nextPage(headers) ?? null });
    });
    await Promise.allSettled(fetched);
    this.update(this.#listed);
  }

  /** What a path of the address bar plays: {key, name, title, facts, hls, dash}; undefined where it names no recording. */
  find(path) {
    return this.#items.find((one) => one.key === path);
  }

  /** @param key of the recording that is looked at, or listened to; control for moving in it, if it has none elsewhere */
  mark(key, control = undefined) {
    for (const [name, row] of this.#rows) row.mark(name === key);
    this.#marked = key;
    const node = this.#rows.get(key)?.node;
    if (!node) control?.remove();
    else if (control && control.parentNode !== node) node.append(control);
  }

  #makeRow(item) {
    const facts = el("span", { class: "quiet" });
    const link = el("a", { class: "row", href: `#${this.#section}/${encodePath(item.key)}` },
      el("span", { class: "name", dir: "auto" }, item.title), facts);
    const files = el("span", { class: "files" });
    let shown = "";
    return {
      node: el("li", { class: "with-file" }, link, files),
      mark: marker(link),
      update: (now) => {
        say(facts, now.facts);
        // The MP4s are known a moment later than the recording.
        const addresses = JSON.stringify([now.hls, now.mp4, now.mp4_stretches]);
        if (addresses === shown) return;
        shown = addresses;
        files.replaceChildren(...(this.#hasAddress ? [addressLink(now)] : []),
          ...(now.mp4 ? [fileLink(now.mp4, now.title, "MP4")] : stretchLinks(now)));
      },
    };
  }
}

const dateOf = (seconds) => new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

/** Time of the day at which a stretch of a recording begins or ends. */
const timeOfDay = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { timeStyle: "medium" });

/** Returns a recording of a channel or a station as it is listed, with a key for the address bar. */
function recordingOf(item, one) {
  const of = item.station || item.name;
  const lacking = one.mp4_stretches?.length ? "no MP4 of the whole" : "no MP4";
  const facts = [one.title && dateOf(one.start), clock(one.duration), bytes(one.size), one.mp4_reason && `${lacking}: ${one.mp4_reason}`];
  return {
    ...one,
    key: `${item.name}/${one.id}`,
    name: item.name,
    title: one.title ? `${one.title} – ${of}` : `${of}, ${dateOf(one.start)}`,
    facts: facts.filter(Boolean).join(" · "),
  };
}

const addressLink = ({ hls, title }) => el("a", { class: "quiet", href: hls, "aria-label": `HLS address of ${title}`, title: "For phones and players of HLS" }, "HLS");

function fileLink(address, title, text) {
  return el("a", { class: "quiet", href: address, download: true, "aria-label": `Download ${title} as MP4` }, text);
}

/** Links to the MP4s of a recording's stretches, each with its times. */
function stretchLinks({ mp4_stretches: stretches = [], title }) {
  return stretches.map(({ mp4, start, duration }) => {
    const times = `${timeOfDay(start)} – ${timeOfDay(start + duration)}`;
    return fileLink(mp4, `${title}, ${times},`, `MP4, ${times}`);
  });
}
