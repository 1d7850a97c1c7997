// The library view: folders, titles and files as one list that is searched and sorted, and what is chosen of it.

import { choose } from "../engines/decision.js";
import { codecNames, isSmooth, judge, tracksOf } from "../engines/capabilities.js";
import { ContinueWatching } from "./continuewatching.js";
import { NextItem } from "../controls/nextitem.js";
import { joinPlayback } from "../controls/mediasession.js";
import { byId, bytes, clock, count, el, encodePath, getList, getPage, hasLists, hides, isOwner, itemAddress, say, sayEmpty, secondsOf } from "../dom.js";
import { addressesOf } from "../engines/playmodes.js";
import { tried } from "../engines/pcmtrial.js";
import { keep, recall } from "../storage.js";
import { Posters } from "./posters.js";
import { VirtualList, makeScroller } from "./virtuallist.js";

const SORTS = {
  name: "Name", "name desc": "Name, from Z", "date desc": "Newest first", date: "Oldest first",
  length: "Shortest first", "length desc": "Longest first",
};

const LOOKING_MS = 1000;
const LENGTHS_MS = 4000;
const KNOWN_MS = 20000;
const TYPING_MS = 150;
const POSTER = { width: 160, height: 90 };

/** Items among which the next one is looked for at a time. */
const NEIGHBOURS = 200;

const EMPTY = "The library is empty. Put films (MP4, MOV, MKV, WebM, OGV, MPEG-TS, FLV, AVI, WMV, MPG, VOB), music "
  + "(MP3, AAC, M4A, FLAC, Ogg, Opus, WAV, WMA), subtitles beside films (SRT, VTT, ASS, SSA) and playlists of clips "
  + "(.playlist.json) into its folder; they appear here by themselves.";

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
  #watching;
  #list;
  #crumbs = el("nav", { class: "crumbs", "aria-label": "Folders" });
  #input = el("input", { type: "search", id: "search", placeholder: "Search", "aria-label": "Search the library", autocomplete: "off", spellcheck: "false", maxlength: 200 });
  #select = el("select", { id: "sort", "aria-label": "Sort by" });
  #shareFolder;
  #tools = el("div", { class: "tools" }, this.#input, this.#select);
  #number = el("p", { class: "quiet", role: "status" });
  #empty = el("p", { class: "empty", hidden: true });
  #closed = el("p", { class: "quiet", hidden: true }, "Folders that need a token aren't listed. ",
    el("button", { class: "plain", type: "button", click: () => this.onAdministrator() }, "Show them"));
  #everywhere = el("button", { type: "button", hidden: true }, "Search the whole library");

  /** Called when the list is to be loaded again. */
  onChange = () => {};
  /** Called when what needs a token is to be shown, too. */
  onAdministrator = () => {};

  constructor(stage) {
    this.stage = stage;
    this.#watching = new ContinueWatching(stage.playback, this.#posters);
    const next = new NextItem(stage.playback, neighbourOf, (item) => this.#goOnWith(item));
    joinPlayback(stage.playback, (places) => next.step(places));
    byId("anew").addEventListener("click", () => this.#beginAnew());
    const { list, box } = makeScroller("Library");
    this.#list = new VirtualList(list, (query) => this.#fetch(query), () => makeRow(this.#posters, () => this.#chosen, () => this.#folder));
    this.#select.append(...Object.entries(SORTS).map(([value, label]) => el("option", { value }, label)));
    const sort = recall("sort", this.#sort);
    if (Object.hasOwn(SORTS, sort)) this.#sort = sort;
    this.#select.value = this.#sort;
    this.#showFolder();
    this.#select.addEventListener("change", () => this.#sortBy(this.#select.value));
    this.#input.addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#lookFor(this.#input.value.trim()), TYPING_MS);
    });
    const sharing = el("div", { class: "share-place" });
    this.#shareFolder = stage.sharing.makeButton("Share this folder", () => this.#folderAddress, (form) => sharing.append(form));
    byId("panel-library").append(el("div", { class: "browse" }, this.#watching.node,
      el("div", { class: "dial" }, this.#crumbs, this.#shareFolder), sharing, this.#tools, this.#number, this.#closed, this.#empty, this.#everywhere, box));
    this.#everywhere.addEventListener("click", () => this.#lookEverywhere());
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

  /** Whether what is loaded of the list has a path's item, or is what its folder has. */
  finds(path) {
    return path.endsWith("/") ? this.#list.total > 0 : this.#find(path) !== undefined;
  }

  /** Polling interval: shorter while the server has not inspected all visible items. */
  get everyMs() {
    if ([...this.#list.shown, this.#find(this.#routed)].some((item) => item?.playable === null)) return LOOKING_MS;
    return this.#sort.startsWith("length") ? LENGTHS_MS : KNOWN_MS;
  }

  /** Whether nothing at all is in the library. */
  get isEmpty() {
    return this.#list.total === 0 && !this.#folder && !this.#search;
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
    sayEmpty(this.#empty, { length: total }, "library", EMPTY, "There is nothing in the library at the moment.");
    this.#everywhere.hidden = total > 0 || !this.#search || !this.#folder;
    if (this.#search || this.#folder) {
      // Where a folder is for holders of a token, the page asks for that.
      this.#empty.hidden = total > 0 || (!this.#search && hides("library"));
      say(this.#empty, this.#search ? `Nothing here is called “${this.#search}”.` : "There is nothing in this folder.");
    }
    this.#showFolder();
    this.#closed.hidden = !isOwner() || !hides("library");
    this.stage.sharing.offer(this.#shareFolder, this.#folderAddress);
    this.#crumbs.hidden = this.#tools.hidden = this.#number.hidden = !hasLists();
    if (!loaded.anew) return;
    this.#watching.show(!this.#folder && !this.#search);
    this.#list.scrollTo((item) => item.path === this.#routed);
  }

  /** @param path of the item, "" for whatever comes first; options from the address: mode, burn, t, buffer, level */
  enter(path, options) {
    const isItem = path && !path.endsWith("/");
    if (!isItem && this.stage.playback.source) return this.stage.preparation.show();
    const item = this.#find(path);
    this.#chosen = item?.path ?? null;
    for (const row of byId("panel-library").querySelectorAll("a[data-path]")) mark(row, this.#chosen);
    if (!item) {
      // The address of a folder, as one names it without its slash.
      if (isItem && this.#list.find((one) => one.kind === "folder" && one.path === path)) return location.replace(`#library/${encodePath(path)}/`);
      if (isItem) this.#watching.forget(path);
      return this.stage.clear(isItem ? `“${path}” isn't in the library.` : "");
    }
    return this.#present(item, options, Boolean(isItem));
  }

  /** @param play whether an item that isn't open yet begins by itself */
  #present(item, options, play) {
    const can = judge(item);
    if (can.reason && !options.has("anyway")) {
      this.stage.refuse({ title: titleOf(item), facts: describe(item), reason: can.reason, advice: adviceFor(item) });
      this.stage.offerFile(item.media, `#library/${encodePath(item.path)}?anyway=1`);
      this.stage.preparation.show(item.path);
      if (play) this.stage.bringIntoView();
      return;
    }
    this.stage.preparation.show(item.path);
    const addresses = addressesOf(item);
    // The head of an incomplete file has the length of the whole one; its segments end where the file does.
    const isCut = item.incomplete && !item.obstacle;
    const wanted = options.get("mode") ?? ((can.way ?? "file") === "file" && !isCut ? "file" : "hls");
    const burnable = Object.keys(addresses).length > 1 ? item.burned_subtitles : [];
    const { mode, burned, url } = choose(addresses, wanted, burnable, options.get("burn"));
    const { source, video } = this.stage.playback;
    if (source?.key === item.path && source.mode === mode && source.burned === burned) {
      // What was shown without anybody's choice plays once it is chosen.
      if (play && video.played.length === 0) this.stage.playback.play();
      return;
    }
    // Switching the mode of an item continues at the same position.
    const same = source?.key === item.path;
    const left = same || options.has("t") ? 0 : this.#watching.positionOf(item.path);
    this.#watching.follow(item);
    const number = (name, otherwise) => (options.has(name) ? secondsOf(options.get(name)) : otherwise);
    this.stage.present({
      title: titleOf(item),
      facts: describe(item),
      way: mode === "file" ? "file" : burned ? "encoded" : can.hls ?? "segments",
      modes: Object.keys(addresses),
      shared: item.hls ?? item.media,
      file: (item.hls && item.media) ?? "",
      source: {
        key: item.path,
        mode,
        isLive: false,
        url,
        subtitles: mode === "file" ? item.subtitles : [],
        burnable,
        burned,
        text: burned ? -1 : same && source.burned ? source.text : undefined,
        chapters: item.chapters,
        thumbnails: item.thumbnails,
        frameRate: item.frame_rate,
        tracks: tracksOf(item),
        about: { ...item.tags, title: titleOf(item), cover: item.cover },
        plays: can,
        followed: true,
        // An engine that has no picture yet stands at 0.
        start: same ? video.currentTime || source.start : number("t", left),
        end: number("end", 0),
        buffer: number("buffer", 0),
        level: number("level", -1),
      },
    }, same ? !video.paused : play);
    this.stage.offerFile(item.media);
    if (!same) byId("anew").hidden = left === 0;
    if (play && !same) this.stage.bringIntoView();
    this.#warn(item);
  }

  #beginAnew() {
    const { playback } = this.stage;
    byId("anew").hidden = true;
    this.#watching.forget(playback.source.key);
    playback.seekTo(0);
    playback.play();
  }

  /** Plays the item that follows; the list goes with it unless something else was looked at meanwhile. */
  #goOnWith(item) {
    const isShown = this.#chosen === this.stage.playback.source?.key && this.#chosen === this.#routed;
    this.#present(item, new URLSearchParams(), true);
    if (isShown) location.hash = `library/${encodePath(item.path)}`;
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
    if (!hasLists()) {
      const [items] = await Promise.all([getList(itemAddress("library", this.#routed)), tried]);
      return { items, offset: 0, total: items.length };
    }
    const [sort, order = "asc"] = this.#sort.split(" ");
    const query = new URLSearchParams({ folder: this.#folder, sort, order, limit });
    if (this.#search) query.set("search", this.#search);
    if (around === undefined) query.set("offset", offset);
    else query.set("around", around);
    const [{ items, headers }] = await Promise.all([getPage(`${this.address}?${query}`), tried]);
    return {
      items,
      offset: Number(headers.get("x-offset") ?? offset ?? 0),
      // A folder that isn't there, of a library that needn't be, has no number.
      total: Number(headers.get("x-total-count") ?? items.length),
    };
  }

  /** Address whose token opens all that is in the folder that is shown; "" for the whole library. */
  get #folderAddress() {
    return this.#folder && `/vod/${encodePath(this.#folder)}/`;
  }

  #lookFor(text) {
    if (text === this.#search) return;
    this.#search = text;
    this.#again();
  }

  #lookEverywhere() {
    this.#folder = "";
    this.#input.focus();
    this.#again();
  }

  #sortBy(sort) {
    this.#sort = sort;
    keep("sort", sort);
    this.#again();
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

/** The items of a list among which one has its place: music among music, without what can't be played. */
function alikeIn(items, one) {
  // A title's files are no items of their own here.
  const parts = items.flatMap((each) => each.renditions ?? []);
  return items.filter((each) => each === one || (each.kind !== "folder" && !parts.includes(each.path)
    && Boolean(each.width) === Boolean(one.width) && judge(each).way));
}

/** What a folder is called apart from its numbers: "Season 1" and "Season 2" are alike. */
const withoutNumbers = (path) => path.split("/").at(-1).replace(/[0-9]+/g, "#");

/** Finds the first item of the next season's folder, or the last one of the season before; null for none. */
async function beyondFolder(item, places) {
  const folder = folderOf(item.path);
  if (!withoutNumbers(folder).includes("#")) return null;
  const query = new URLSearchParams({ folder: folderOf(folder), sort: "name", limit: NEIGHBOURS, around: folder });
  const seasons = (await getPage(`/api/library?${query}`)).items
    .filter((one) => one.kind === "folder" && withoutNumbers(one.path) === withoutNumbers(folder));
  const next = seasons[seasons.findIndex((one) => one.path === folder) + places];
  if (!next) return null;
  const inside = new URLSearchParams({ folder: next.path, sort: "name", order: places > 0 ? "asc" : "desc", limit: NEIGHBOURS });
  return alikeIn((await getPage(`/api/library?${inside}`)).items, item)[0] ?? null;
}

/** Finds the item so many places behind another one of its kind in its folder, as people count, and beyond a season; null for none. */
async function neighbourOf(path, places) {
  if (!hasLists()) return null;
  const query = new URLSearchParams({ folder: folderOf(path), sort: "name", limit: NEIGHBOURS });
  const { items, headers } = await getPage(`/api/library?${query}&${new URLSearchParams({ around: path })}`);
  const at = items.findIndex((one) => one.path === path && one.kind !== "folder");
  if (at < 0) return null;
  const behind = Number(headers.get("x-offset")) + items.length;
  if (behind < Number(headers.get("x-total-count"))) items.push(...(await getPage(`/api/library?${query}&offset=${behind}`)).items);
  const alike = alikeIn(items, items[at]);
  return alike[alike.indexOf(items[at]) + places] ?? beyondFolder(items[at], Math.sign(places));
}

/** Advice about an item that this browser can't play. */
const adviceFor = (item) => [generalAdvice(item), item.convert && `This line makes a file that plays: ${item.convert}`].filter(Boolean).join(" ");

function generalAdvice(item) {
  if (item.content_type) return "Try another browser, download the file for another player, or play it anyway: some browsers play more than they say.";
  if (item.incomplete) return "Wait until all of it has been downloaded or copied, or fetch it again.";
  return "Download the file and try another player, such as VLC; a copy as MP4 with H.264 and AAC plays here.";
}

/** What music is called by its tags, and other files by their names. */
const titleOf = (item) => item.tags?.title ?? item.name;

function describe(item) {
  const { reason, lacking } = judge(item);
  const renditions = item.renditions?.map((name) => name.match(/\.(\d+p)\./)?.[1] ?? name);
  return [
    item.incomplete && `incomplete: ${item.incomplete}`,
    item.tags?.artist,
    item.tags?.album && `${item.tags.album}${item.tags.track ? `, ${item.tags.track}` : ""}`,
    renditions && `adapts: ${renditions.join(", ")}`,
    item.width && `${item.width} × ${item.height}`,
    item.duration && (item.incomplete ? `${clock(item.duration)} when it is whole` : clock(item.duration)),
    item.size && bytes(item.size),
    item.subtitles?.length && `subtitles: ${item.subtitles.map((one) => one.name).join(", ")}`,
    item.codecs && codecNames(item).join(", "),
    ...(item.unused ?? []).map(({ file, reason }) => `not used: ${file} (${reason})`),
    lacking && `without its sound in ${lacking}, which isn't decoded here`,
    item.playable === false && item.codecs && !reason && `elsewhere: ${item.reason}`,
  ].filter(Boolean).join(" · ");
}

function describeRow(item, shown) {
  if (item.kind === "folder") return count(item.files.toLocaleString(), "file", "files");
  const { reason } = judge(item);
  const folder = folderOf(item.path);
  // A search finds items of several folders. The length is on the picture.
  return [
    folder !== shown && folder.slice(shown && shown.length + 1),
    reason ? `Not playable here: ${reason}.` : describe({ ...item, duration: null, unused: [] }),
  ].filter(Boolean).join(" · ");
}

function mark(link, chosen) {
  if (chosen !== null && link.dataset.path === chosen && link.dataset.kind !== "folder") link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}

/** A row whose item changes while the list is scrolled; the functions return the item that plays, and the folder that is shown. */
function makeRow(posters, chosen, shown) {
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
      say(name, item ? titleOf(item) : "…");
      say(facts, item ? describeRow(item, shown()) : "");
      say(length, item?.duration && !item.incomplete ? clock(item.duration) : "");
      mark(link, chosen());
      posters.show(canvas, item?.thumbnails ?? item?.cover ?? item?.poster ?? null);
    },
  };
}
