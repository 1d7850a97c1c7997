// The library view: folders, titles and files as one list that is searched and sorted, and what is chosen of it.

import { codecNames, isSmooth, judge, tracksOf } from "../engines/capabilities.js";
import { byId, bytes, clock, count, el, encodePath, getPage, say } from "../dom.js";
import { addressesOf } from "../engines/playmodes.js";
import { Posters } from "./posters.js";
import { VirtualList, makeScroller } from "./virtuallist.js";

const SORTS = {
  name: "Name", "name desc": "Name, from Z", "date desc": "Newest first", date: "Oldest first",
  length: "Shortest first", "length desc": "Longest first",
};
const SORT_KEY = "headwater.sort";

const LOOKING_MS = 1000;
const LENGTHS_MS = 4000;
const KNOWN_MS = 20000;
const TYPING_MS = 150;
const POSTER = { width: 160, height: 90 };

const folderOf = (path) => path.slice(0, Math.max(path.lastIndexOf("/"), 0));

export class LibraryView {
  address = "/api/library";
  #folder = "";
  #search = "";
  #sort = "name";
  #routed = null;
  #entered = false;
  #chosen = null;
  #typing = 0;
  #posters = new Posters();
  #list;
  #crumbs = el("nav", { class: "crumbs", "aria-label": "Folders" });
  #input = el("input", { type: "search", id: "search", placeholder: "Search", "aria-label": "Search the library", autocomplete: "off", spellcheck: "false", maxlength: 200 });
  #select = el("select", { id: "sort", "aria-label": "Sort by" });
  #number = el("p", { class: "quiet", role: "status" });
  #empty = el("p", { class: "empty", hidden: true });

  /** Called when the list is to be loaded again. */
  onChange = () => {};

  constructor(stage) {
    this.stage = stage;
    const { list, box } = makeScroller("Library");
    this.#list = new VirtualList(list, (query) => this.#fetch(query), () => makeRow(this.#posters, () => this.#chosen));
    this.#select.append(...Object.entries(SORTS).map(([value, label]) => el("option", { value }, label)));
    this.#recallSort();
    this.#showFolder();
    this.#select.addEventListener("change", () => this.#sortBy(this.#select.value));
    this.#input.addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#lookFor(this.#input.value.trim()), TYPING_MS);
    });
    const tools = el("div", { class: "tools" }, this.#input, this.#select);
    byId("panel-library").append(el("div", { class: "browse" }, this.#crumbs, tools, this.#number, this.#empty, box));
    list.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step && this.#list.moveFocus(step)) event.preventDefault();
    });
  }

  /** Puts the cursor into the field for searching. */
  focusSearch() {
    this.#input.focus();
    this.#input.select();
  }

  /** Fetches what is visible of the folder that a path names or lies in. */
  load(path) {
    if (path === this.#routed) return this.#list.reload({ also: (item) => item === this.#find(path) });
    this.#routed = path;
    const isItem = path && !path.endsWith("/");
    const folder = isItem ? folderOf(path) : path.replace(/\/$/, "");
    if (this.#entered && isItem && this.knows(path)) return this.#list.reload();
    if (folder !== this.#folder || isItem) this.#input.value = this.#search = "";
    this.#folder = folder;
    this.#entered = true;
    return this.#list.reload({ anew: true, around: isItem ? path : undefined });
  }

  /** Whether a path's item is loaded; where not, its folder is. */
  knows(path) {
    const known = this.#routed !== null && path && !path.endsWith("/") && this.#find(path) !== undefined;
    if (known) this.#routed = path;
    return Boolean(known);
  }

  /** Polling interval: shorter while the server has not inspected all visible items. */
  get everyMs() {
    if ([...this.#list.shown, this.#find(this.#routed)].some((item) => item?.playable === null)) return LOOKING_MS;
    return this.#sort.startsWith("length") ? LENGTHS_MS : KNOWN_MS;
  }

  /** Whether an item is still being inspected. */
  isLooking(path) {
    return this.#find(path)?.playable === null;
  }

  update(loaded) {
    if (loaded === null) return;
    this.#list.show(loaded);
    const { total } = this.#list;
    say(this.#number, count(total.toLocaleString(), "item", "items"));
    this.#empty.hidden = total > 0;
    say(this.#empty, this.#search ? `Nothing here is called “${this.#search}”.`
      : this.#folder ? "There is nothing in this folder."
        : "The library is empty. Put MP4 or MOV files into its folder; they appear here by themselves.");
    this.#showFolder();
    if (loaded.anew) this.#list.scrollTo((item) => item.path === this.#routed);
  }

  /** @param path of the item, "" for whatever comes first; options from the address: mode, t, buffer, level */
  enter(path, options) {
    const isItem = path && !path.endsWith("/");
    if (!isItem && this.stage.playback.source) return undefined;
    const item = this.#find(path);
    this.#chosen = item?.path ?? null;
    for (const row of byId("panel-library").querySelectorAll("a[data-path]")) mark(row, this.#chosen);
    if (!item) return this.stage.clear(isItem ? `“${path}” isn't in the library.` : "");
    const can = judge(item);
    if (can.reason && !options.has("anyway")) {
      this.stage.refuse({ title: item.name, facts: describe(item), reason: can.reason, advice: adviceFor(item) });
      this.stage.offerFile(item.media, `#library/${encodePath(item.path)}?anyway=1`);
      if (isItem) this.stage.bringIntoView();
      return undefined;
    }
    const addresses = addressesOf(item);
    const best = can.hls && (item.kind === "title" || !can.file) ? "hls" : "file";
    const wanted = options.get("mode") ?? best;
    const mode = Object.hasOwn(addresses, wanted) ? wanted : Object.keys(addresses)[0];
    const { source, video } = this.stage.playback;
    if (source?.key === item.path && source.mode === mode) return undefined;
    // Switching the mode of an item continues at the same position.
    const same = source?.key === item.path;
    const number = (name, otherwise) => (options.has(name) ? Number(options.get(name)) || 0 : otherwise);
    this.stage.present({
      title: item.name,
      facts: describe(item),
      modes: Object.keys(addresses),
      source: {
        key: item.path,
        mode,
        isLive: false,
        url: addresses[mode],
        subtitles: mode === "file" ? item.subtitles : [],
        chapters: item.chapters,
        thumbnails: item.thumbnails,
        frameRate: item.frame_rate,
        tracks: tracksOf(item),
        plays: can,
        start: same ? video.currentTime : number("t", 0),
        buffer: number("buffer", 0),
        level: number("level", -1),
      },
    }, same ? !video.paused : Boolean(path));
    this.stage.offerFile(item.media);
    if (isItem && !same) this.stage.bringIntoView();
    this.#warn(item);
    return undefined;
  }

  /** Says so where the browser expects that this machine is too slow for the film. */
  async #warn(item) {
    const smooth = await isSmooth(item);
    if (smooth === false && this.stage.playback.source?.key === item.path) {
      say(byId("facts"), `${describe(item)} · this browser expects that it stutters on this machine`);
    }
  }

  #find(path) {
    // Without a path whatever comes first.
    if (!path || path.endsWith("/")) return this.#list.find((item) => item.kind !== "folder" && !judge(item).reason);
    return this.#list.find((item) => item.kind !== "folder" && item.path === path);
  }

  async #fetch({ offset, limit, around }) {
    const [sort, order = "asc"] = this.#sort.split(" ");
    const query = new URLSearchParams({ folder: this.#folder, sort, order, limit });
    if (this.#search) query.set("search", this.#search);
    if (around === undefined) query.set("offset", offset);
    else query.set("around", around);
    const { items, headers } = await getPage(`${this.address}?${query}`);
    return {
      items,
      offset: Number(headers.get("x-offset") ?? offset ?? 0),
      // A folder that isn't there, of a library that needn't be, has no number.
      total: Number(headers.get("x-total-count") ?? items.length),
    };
  }

  #lookFor(text) {
    if (text === this.#search) return;
    this.#search = text;
    this.#again();
  }

  #sortBy(sort) {
    this.#sort = sort;
    try {
      localStorage.setItem(SORT_KEY, sort);
    } catch {
      // Storage may be forbidden; then it is sorted like this until the page is left.
    }
    this.#again();
  }

  #recallSort() {
    try {
      const kept = localStorage.getItem(SORT_KEY);
      if (kept in SORTS) this.#sort = kept;
    } catch {
      // As above.
    }
    this.#select.value = this.#sort;
  }

  async #again() {
    const loaded = await this.#list.reload({ anew: true }).catch(() => null);
    this.update(loaded);
    this.onChange();
  }

  #showFolder() {
    const names = this.#folder ? this.#folder.split("/") : [];
    const links = ["Library", ...names].map((name, index) => {
      const path = names.slice(0, index).map((each) => `${each}/`).join("");
      const isHere = index === names.length;
      return el("a", { href: `#library/${encodePath(path)}`, "aria-current": isHere && "page", dir: "auto" }, name);
    });
    if (this.#crumbs.textContent !== links.map((link) => link.textContent).join("")) this.#crumbs.replaceChildren(...links);
  }
}

/** Advice about an item that this browser can't play. */
const adviceFor = (item) => (item.content_type
  ? "Try another browser, download the file for another player, or play it anyway: some browsers play more than they say."
  : "Download the file and try another player, such as VLC; a copy as MP4 with H.264 and AAC plays here.");

function describe(item) {
  const renditions = item.renditions?.map((name) => name.match(/\.(\d+p)\./)?.[1] ?? name);
  return [
    renditions && `adapts: ${renditions.join(", ")}`,
    item.width && `${item.width} × ${item.height}`,
    item.duration && clock(item.duration),
    item.size && bytes(item.size),
    item.subtitles?.length && `subtitles: ${item.subtitles.map((one) => one.name).join(", ")}`,
    item.codecs && codecNames(item).join(", "),
    item.playable === false && item.codecs && !judge(item).reason && `elsewhere: ${item.reason}`,
  ].filter(Boolean).join(" · ");
}

function describeRow(item) {
  if (item.kind === "folder") return count(item.files.toLocaleString(), "file", "files");
  const { reason } = judge(item);
  if (reason) return `Not playable here: ${reason}.`;
  // Its length is on its picture.
  return describe({ ...item, duration: null });
}

function mark(link, chosen) {
  if (chosen !== null && link.dataset.path === chosen && link.dataset.kind !== "folder") link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}

/** A row whose item changes while the list is scrolled. */
function makeRow(posters, chosen) {
  const name = el("span", { class: "name", dir: "auto" });
  const facts = el("span", { class: "quiet" });
  const canvas = el("canvas", { ...POSTER, class: "poster", "aria-hidden": "true" });
  const length = el("span", { class: "length" });
  const link = el("a", { class: "row" }, el("span", { class: "picture" }, canvas, length), el("span", { class: "about" }, name, facts));
  const node = el("li", {}, link);
  return {
    node,
    update(item) {
      const { kind = "loading", path = "" } = item ?? {};
      const isOff = item && kind !== "folder" && judge(item).reason !== "";
      const address = `#library/${encodePath(path)}${kind === "folder" ? "/" : ""}`;
      if (!item) link.removeAttribute("href");
      else if (link.getAttribute("href") !== address) link.setAttribute("href", address);
      link.className = `row ${kind}${isOff ? " off" : ""}`;
      link.dataset.path = path;
      link.dataset.kind = kind;
      link.title = path;
      say(name, item?.name ?? "…");
      say(facts, item ? describeRow(item) : "");
      say(length, item?.duration ? clock(item.duration) : "");
      mark(link, chosen());
      posters.show(canvas, item?.thumbnails ?? null);
    },
  };
}
