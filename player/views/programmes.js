// The programmes of a channel: those that are on or have been on, each from its beginning, and those that come.

import { el, encodePath, getList, hasLists, say, syncRows } from "../dom.js";

/** How often the list is asked for; a programme that begins comes into it so late. */
const EVERY_MS = 15_000;

/** What is asked for: the newest programmes of the last days, up to now. */
const SPAN = "start=now-7d&end=now&order=desc&limit=200";

/** The programme that is on, and the next ones. */
const NEXT = "start=now&limit=50";

const MARK = "/programme:";

const STATES = { running: "on air: play from the beginning" };

/** Returns {channel, id} of a path of the address bar that names a programme; null for any other. */
export function programmeIn(path) {
  const at = path.indexOf(MARK);
  return at < 0 ? null : { channel: path.slice(0, at), id: path.slice(at + MARK.length) };
}

const keyOf = (channel, id) => `${channel}${MARK}${id}`;

const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { timeStyle: "short" });
const day = (seconds) => new Date(seconds * 1000).toLocaleDateString([], { dateStyle: "medium" });

/** From when to when, with the day where that isn't today. */
function describeTimes({ start, end }) {
  const isToday = day(start) === day(Date.now() / 1000);
  return `${isToday ? "" : `${day(start)}, `}${time(start)} – ${time(end)}`;
}

/** A row of a programme that hasn't begun, which can't be played. */
function makeNextRow() {
  const name = el("span", { class: "name" });
  const facts = el("span", { class: "quiet" });
  return {
    node: el("li", { class: "row" }, name, facts),
    update(now) {
      say(name, titleOf(now));
      say(facts, describeTimes(now));
    },
  };
}

const titleOf = (programme) => programme.title || `Programme at ${time(programme.start)}`;

export class Programmes {
  #section;
  #channel = "";
  #items = [];
  #asked = 0;
  #marked = "";
  #loading = Promise.resolve();
  #rows = new Map();
  #list = el("ul", { class: "rows" });
  #past = el("div", { class: "programmes", hidden: true }, el("h2", {}, "Programmes"), this.#list);
  #nextRows = new Map();
  #nextList = el("ul", { class: "rows" });
  #next = el("div", { class: "coming", hidden: true }, el("h2", {}, "Coming up"), this.#nextList);
  node = el("div", {}, this.#past, this.#next);

  /** @param section of the page, in which they play */
  constructor(section) {
    this.#section = section;
  }

  /** The programmes that are listed, the newest first. */
  get listed() {
    return this.#items;
  }

  /** @param item the channel that is looked at, if any; the list is asked for again from time to time */
  update(item) {
    const name = item?.name ?? "";
    const isOther = name !== this.#channel;
    if (isOther) {
      [this.#channel, this.#items] = [name, []];
      this.#show([]);
    }
    if (name && (isOther || performance.now() >= this.#asked)) this.#loading = this.#load(name);
    return this.#loading;
  }

  async #load(name) {
    this.#asked = performance.now() + EVERY_MS;
    // A server without programmes of this channel, or that doesn't list them for everybody, has none here.
    const address = `/api/live/${encodePath(name)}/programmes`;
    const lists = hasLists() ? [SPAN, NEXT].map((query) => getList(`${address}?${query}`).catch(() => [])) : [];
    const [items = [], next = []] = await Promise.all(lists);
    if (name !== this.#channel) return;
    this.#items = items.filter((one) => one.hls);
    this.#show(next.filter((one) => one.state === "coming"));
  }

  /** What the address of a programme plays: {key, title, facts, hls, dash}; what isn't listed plays all the same. */
  find(channel, id, base) {
    const known = this.#channel === channel && this.#items.find((one) => one.id === id);
    const query = `?programme=${encodeURIComponent(id)}`;
    const key = keyOf(channel, id);
    if (!known) return { key, title: channel, facts: "", hls: `${base ?? `/live/${channel}/master.m3u8`}${query}`, dash: null };
    return { key, title: `${titleOf(known)} – ${channel}`, facts: describeTimes(known), hls: known.hls, dash: known.dash };
  }

  /** Marks the programme that is looked at. */
  mark(key) {
    for (const [name, row] of this.#rows) row.mark(name === key);
    this.#marked = key;
  }

  #show(next) {
    this.#past.hidden = this.#items.length === 0;
    this.#next.hidden = next.length === 0;
    syncRows(this.#nextList, this.#nextRows, next, (one) => one.id, makeNextRow);
    syncRows(this.#list, this.#rows, this.#items, (one) => keyOf(this.#channel, one.id), (one) => this.#makeRow(one));
    this.mark(this.#marked);
  }

  #makeRow(item) {
    const name = el("span", { class: "name" });
    const facts = el("span", { class: "quiet" });
    const link = el("a", { class: "row", href: `#${this.#section}/${encodePath(keyOf(this.#channel, item.id))}` }, name, facts);
    const file = el("a", { class: "quiet", download: true }, "MP4");
    const files = el("span", { class: "files" });
    return {
      node: el("li", { class: "with-file" }, link, files),
      mark: (on) => (on ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")),
      update(now) {
        say(name, titleOf(now));
        say(facts, [describeTimes(now), STATES[now.state], now.recording && "kept"].filter(Boolean).join(" · "));
        if (!now.mp4) return;
        file.href = now.mp4;
        file.setAttribute("aria-label", `Download ${titleOf(now)} as MP4`);
        if (!file.isConnected) files.replaceChildren(file);
      },
    };
  }
}
