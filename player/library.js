// The library view: adaptive titles, playable files, and other files with the reason why they don't play.

import { byId, bytes, clock, el, encodePath, getPage, say, syncRows } from "./dom.js";

const GROUPS = [
  ["Titles", (item) => item.playable && item.kind === "title"],
  ["Files", (item) => item.playable && item.kind !== "title"],
  ["Being looked at", (item) => item.playable === null],
  ["Not playable in a browser", (item) => item.playable === false],
];

const CODECS = { h264: "H.264", hevc: "HEVC", av1: "AV1", vp9: "VP9", aac: "AAC", mp3: "MP3", opus: "Opus", ac3: "AC-3", eac3: "E-AC-3", flac: "FLAC" };

const LOOKING_MS = 1000;
const KNOWN_MS = 20000;

export class LibraryView {
  address = "/api/library";
  unavailable = "The library's folder can't be read now. This page goes on asking.";
  #items = [];
  #named = [];
  #pages = 1;
  #groups;
  #empty = el("p", { class: "empty" }, "The library is empty. Put MP4 or MOV files into its folder; they appear here by themselves.");
  #more = el("button", { type: "button", class: "more", hidden: true, click: () => this.showMore() }, "Show more");

  /** Called when another page is to be loaded. */
  onMore = () => {};

  constructor(stage) {
    this.stage = stage;
    this.#groups = GROUPS.map(([name, belongs]) => {
      const list = el("ul", { class: "rows" });
      const box = el("div", { hidden: true }, el("h2", {}, name), list);
      return { belongs, list, box, rows: new Map() };
    });
    byId("panel-library").append(...this.#groups.map((group) => group.box), this.#more, this.#empty);
  }

  /** Fetches as many pages as are shown, and the item of a path that is on none of them. */
  async load(path) {
    const items = [];
    let next = this.address;
    for (let page = 0; page < this.#pages && next; page += 1) {
      const loaded = await getPage(next);
      items.push(...loaded.items);
      next = loaded.next;
    }
    const isThere = !path || !next || items.some((item) => item.path === path);
    this.#named = isThere ? [] : (await getPage(`${this.address}?path=${encodeURIComponent(path)}`)).items;
    this.#more.hidden = !next;
    this.#more.disabled = false;
    return items;
  }

  showMore() {
    this.#pages += 1;
    this.#more.disabled = true;
    this.onMore();
  }

  /** Whether an item is loaded. */
  knows(path) {
    return !path || this.#find(path) !== undefined;
  }

  /** Polling interval: shorter while the server has not inspected all listed items. */
  get everyMs() {
    return [...this.#items, ...this.#named].some((item) => item.playable === null) ? LOOKING_MS : KNOWN_MS;
  }

  /** Whether an item is still being inspected. */
  isLooking(path) {
    const item = this.#find(path);
    return path ? item?.playable === null : !item && this.everyMs === LOOKING_MS;
  }

  #find(path) {
    if (!path) return this.#items.find((each) => each.playable);
    return [...this.#items, ...this.#named].find((each) => each.path === path);
  }

  update(items) {
    this.#items = items;
    this.#empty.hidden = items.length > 0;
    for (const { belongs, list, box, rows } of this.#groups) {
      const mine = items.filter(belongs);
      box.hidden = mine.length === 0;
      syncRows(list, rows, mine, (item) => `${item.kind}/${item.path}`, makeRow);
    }
  }

  /** @param path of the item, "" for whatever comes first; options from the address: mode, t, buffer, level */
  enter(path, options) {
    if (!path && this.stage.playback.source) return undefined;
    const item = this.#find(path);
    for (const row of byId("panel-library").querySelectorAll("a")) {
      if (item && row.dataset.path === item.path) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    if (!item) return this.stage.clear(path ? `“${path}” isn't in the library.` : "");
    if (item.playable === false) return this.stage.clear(`${item.path} can't be played here: ${item.reason}.`);
    const modes = ["file", "hls"].filter((mode) => item[mode === "file" ? "media" : "hls"]);
    const wanted = options.get("mode") ?? (item.kind === "title" ? "hls" : "file");
    const mode = modes.includes(wanted) ? wanted : modes[0];
    const { source, video } = this.stage.playback;
    if (source?.key === item.path && source.mode === mode) return undefined;
    // Switching the mode of an item continues at the same position.
    const same = source?.key === item.path;
    const number = (name, otherwise) => (options.has(name) ? Number(options.get(name)) || 0 : otherwise);
    return this.stage.present({
      title: item.name,
      facts: describe(item),
      modes,
      source: {
        key: item.path,
        mode,
        url: mode === "hls" ? item.hls : item.media,
        subtitles: item.subtitles,
        chapters: item.chapters,
        thumbnails: item.thumbnails,
        start: same ? video.currentTime : number("t", 0),
        buffer: number("buffer", 0),
        level: number("level", -1),
      },
    }, same ? !video.paused : Boolean(path));
  }
}

function describe(item) {
  const renditions = item.renditions?.map((name) => name.match(/\.(\d+p)\./)?.[1] ?? name);
  return [
    renditions && `adapts: ${renditions.join(", ")}`,
    item.width && `${item.width} × ${item.height}`,
    item.duration && clock(item.duration),
    item.size && bytes(item.size),
    item.subtitles?.length && `subtitles: ${item.subtitles.map((one) => one.name).join(", ")}`,
    item.codecs && item.codecs.split(/, */).map((codec) => CODECS[codec] ?? codec).join(", "),
  ].filter(Boolean).join(" · ");
}

function makeRow(item) {
  const name = el("span", { class: "name" });
  const facts = el("span", { class: "quiet" });
  const address = `#library/${encodePath(item.path)}`;
  const face = item.playable !== false
    ? el("a", { class: "row", href: address, "data-path": item.path }, name, facts)
    : el("div", { class: "row off" }, name, facts);
  return {
    node: el("li", {}, face),
    update(now) {
      say(name, now.kind === "title" ? now.name : now.path);
      say(facts, now.playable !== false ? describe(now) : `Not playable: ${now.reason ?? "browsers don't know this kind of file"}.`);
    },
  };
}
