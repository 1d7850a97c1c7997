// The past of a channel or a station: the last day as a bar with its programmes, and pictures where there are some, any
// moment of it, and clips to give away; of a recording clips alone.

import { PAST_WIDTH, REST_MS, pastPicture } from "../controls/thumbnailtrack.js";
import { clock, copied, el, encodePath, pageUrl, say } from "../dom.js";
import { programmeIn } from "./programmes.js";

/** How the past of a channel, of a station, or a recording, is shown. */
export const OF_CHANNEL = { section: "live", heading: "Earlier", clip: "clip.mp4", download: "Download MP4", hasPictures: true, isFolded: false };
export const OF_STATION = { section: "radio", heading: "Earlier", clip: "clip.m4a", download: "Download M4A", hasPictures: false, isFolded: true };
export const OF_RECORDING = { section: "live", heading: "Clips", clip: "", download: "", hasPictures: false, isFolded: false };

const DAY_S = 24 * 3600;
/** What goes on can't begin before the longest span that the server gives, and it takes a while until it is asked for. */
const ASKING_S = 60;
/** A channel that keeps less has nothing to go back to. */
const LEAST_KEPT_S = 30;
const TICKS_S = [60, 300, 900, 3600, 3 * 3600, 6 * 3600];
const MOST_TICKS = 4;
/** How long a clip is before somebody moves its ends, and how much is on the bar on each side of it. */
const CLIP_S = 60;
const AROUND_S = 300;
const LEAST_CLIP_S = 1;
const STEP_S = 0.1;

const MARK = /^([^/]+)\/(from|clip):([^/]+)(?:\/([^/]+))?$/;

/** Returns {channel, start, end} of a path of the address bar that names a moment or a clip; null for any other. */
function momentIn(path) {
  const [, channel, kind, start, end = ""] = path.match(MARK) ?? [];
  return channel && (kind === "clip") === Boolean(end) ? { channel, start, end } : null;
}

/** Returns what a path of the address bar names of a past: {channel} with a programme, a moment or a clip; null for anything else. */
export const spanIn = (path) => programmeIn(path) ?? momentIn(path);

const iso = (seconds) => new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
const time = (seconds, timeStyle = "medium") => new Date(seconds * 1000).toLocaleTimeString([], { timeStyle });
const day = (seconds) => new Date(seconds * 1000).toLocaleDateString([], { dateStyle: "medium" });
const isToday = (seconds) => day(seconds) === day(Date.now() / 1000);
const describe = (seconds) => (isToday(seconds) ? time(seconds) : `${day(seconds)}, ${time(seconds)}`);
const percent = (share) => `${(100 * Math.min(Math.max(share, 0), 1)).toFixed(3)}%`;

/** Returns how much of a channel's past can be gone back to, in seconds. */
const reach = (item) => Math.min(DAY_S, item.window_hours * 3600);

/** Seconds of a recording, by its own clock, and the addresses of what the page plays of it. */
function inRecording(item, from, to) {
  const [t, end] = [from, to].map((date) => Math.max(date - item.available_from, 0).toFixed(1));
  return new URLSearchParams({ t, end });
}

const beside = (hls, name, query) => `${hls.replace(/master\.m3u8.*$/, name)}?${new URLSearchParams(query)}`;

export class Past {
  #kind;
  #date;
  #item = null;
  #programmes = [];
  /** What the bar shows, in seconds since 1970. */
  #begin = 0;
  #end = 0;
  #isCutting = false;
  #rest = 0;
  #spans = el("div", { class: "day-programmes" });
  #ticks = el("div", { class: "day-ticks", "aria-hidden": "true" });
  #between = el("div", { class: "day-between", hidden: true });
  #moment = this.#slider("Moment");
  #first = this.#slider("Beginning of the clip");
  #last = this.#slider("End of the clip");
  #picture = el("img", { alt: "", width: PAST_WIDTH });
  #shown = el("span");
  #tip = el("div", { class: "tip", hidden: true }, this.#shown);
  #bar = el("div", { class: "day" }, this.#spans, el("div", { class: "day-line" }, this.#between, this.#moment, this.#first, this.#last), this.#ticks, this.#tip);
  #cut = el("button", { class: "plain", type: "button", "aria-expanded": "false", click: () => this.#unfold(!this.#isCutting) }, "Cut a clip");
  #length = el("p", { class: "quiet", role: "status" });
  #kept = el("p", { class: "quiet" });
  #play = el("a", { class: "plain" }, "Play it");
  #file = el("a", { class: "plain", download: true });
  #address = el("input", { readonly: true });
  #copied = el("span", { class: "quiet", role: "status" });
  #cutting = [this.#length, this.#play, this.#file,
    el("label", { class: "field" }, el("span", {}, "Address"), this.#address),
    el("button", { class: "plain", type: "button", click: () => this.#copy() }, "Copy"), this.#copied, this.#kept];
  #fromBeginning = el("button", { class: "plain", type: "button", click: () => this.#goToBeginning() }, "From the beginning");
  #clipper = el("div", { class: "cutting", hidden: true });
  #toLive = el("a", { class: "plain", hidden: true }, "Back to live");

  /** @param kind one of those above; date returns which moment of it is shown, null where it is live */
  constructor(kind, date) {
    this.#kind = kind;
    this.#date = date;
    say(this.#file, kind.download);
    const [outer, heading] = kind.isFolded ? ["details", "summary"] : ["div", "h2"];
    this.node = el(outer, { class: "past", hidden: true }, el(heading, {}, kind.heading),
      el("div", { class: "sheet" }, this.#bar,
        el("div", { class: "day-choices" }, this.#fromBeginning, this.#cut, this.#toLive), this.#clipper));
    this.#file.hidden = !kind.clip;
    this.#fromBeginning.hidden = this.#isRecording;
    this.#moment.addEventListener("change", () => this.#goTo(this.#moment.valueAsNumber));
    this.#bar.addEventListener("pointermove", (event) => this.#point(event));
    this.#bar.addEventListener("pointerleave", () => { this.#tip.hidden = true; });
    this.#picture.addEventListener("error", () => this.#picture.remove());
    for (const one of [this.#first, this.#last]) one.addEventListener("input", () => this.#move(one));
    this.#unfold(false);
  }

  get #isRecording() {
    return this.#kind === OF_RECORDING;
  }

  /** Whether it isn't folded up. */
  get isOpen() {
    return this.node.open !== false;
  }

  /**
   * @param item the channel, station or recording that is looked at, if any, with hls and available_from; a recording has its
   *   end, too; programmes: those of it that are listed, the newest first
   */
  update(item, programmes) {
    if (item?.name !== this.#item?.name) this.#unfold(false);
    const kept = item?.hls ? item.available_from : null;
    this.#item = item ?? null;
    this.#programmes = programmes;
    const now = Date.now() / 1000;
    this.node.hidden = !kept || (item.end ? item.end - kept < 2 * LEAST_CLIP_S : now - kept < LEAST_KEPT_S);
    this.#bar.hidden = this.#isRecording && !this.#isCutting;
    if (this.node.hidden || !this.isOpen || this.#isRecording) return;
    const date = this.#date();
    this.#toLive.hidden = !this.#kind.isFolded || !date;
    this.#toLive.href = this.#link();
    if (this.#isCutting) return;
    this.#show(Math.max(kept, now - reach(item)), now);
    if (!this.#moment.matches(":active, :focus")) this.#moment.value = String(date ? date.getTime() / 1000 : now);
    this.#describe(this.#moment);
  }

  /** What the address of a moment or a clip plays: {key, title, facts, hls, dash}. */
  find(item, path, { start, end }) {
    const [from, to] = [start, end].map((text) => Date.parse(text) / 1000);
    const query = end ? { start, end } : { start };
    const date = Number.isNaN(from) ? start : describe(from);
    const facts = Number.isNaN(from) || Number.isNaN(to) ? "" : `${day(from)}, ${time(from)} – ${time(to)}`;
    return {
      key: path, title: `${item.name}, ${date}`, facts,
      hls: beside(item.hls, "master.m3u8", query), dash: beside(item.hls, "manifest.mpd", query),
    };
  }

  /** The address on the page of something of the past; without one, of what is live. */
  #link(what = "") {
    return `#${this.#kind.section}/${encodePath(`${this.#item.name}${what}`)}`;
  }

  #slider(label) {
    return el("input", { type: "range", step: "any", "aria-label": label });
  }

  /** Shows a span on the bar, with its programmes and times. */
  #show(begin, end) {
    [this.#begin, this.#end] = [begin, end];
    for (const one of [this.#moment, this.#first, this.#last]) [one.min, one.max] = [String(begin), String(end)];
    const within = this.#programmes.filter((one) => one.end > begin && one.start < end);
    this.#spans.replaceChildren(...within.map((one) => {
      const title = one.title || `Programme at ${time(one.start, "short")}`;
      const link = el("a", { href: this.#link(`/programme:${one.id}`), title }, title);
      this.#place(link, Math.max(one.start, begin), Math.min(one.end, end));
      return link;
    }));
    this.#spans.hidden = within.length === 0;
    this.#ticks.hidden = this.#isRecording;
    const step = TICKS_S.find((one) => (end - begin) / one <= MOST_TICKS) ?? TICKS_S.at(-1);
    const zone = new Date(begin * 1000).getTimezoneOffset() * 60;
    const first = Math.ceil((begin - zone) / step) * step + zone;
    const ticks = Array.from({ length: Math.max(Math.ceil((end - first) / step), 0) }, (_, index) => first + index * step);
    this.#ticks.replaceChildren(...ticks.map((at) => {
      // A time that the bar's end would cut goes to the next line, which isn't shown.
      const tick = el("span", {}, `\u200b${time(at, "short").replace(/\s/g, "\u00a0")}`);
      tick.style.left = percent((at - begin) / (end - begin));
      return tick;
    }));
  }

  #place(node, from, to) {
    const length = this.#end - this.#begin;
    node.style.left = percent((from - this.#begin) / length);
    node.style.width = percent((to - from) / length);
  }

  #describe(slider) {
    slider.setAttribute("aria-valuetext", this.#label(slider.valueAsNumber));
  }

  /** Writes a time: of a recording how far it is from its beginning. */
  #label(seconds) {
    return this.#isRecording ? clock(seconds - this.#item.available_from) : describe(seconds);
  }

  /** Shows the time below the pointer at once, and the picture of then once it rests. */
  #point(event) {
    const box = this.#bar.getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    const at = this.#begin + share * (this.#end - this.#begin);
    this.#tip.hidden = false;
    this.#tip.style.left = `${Math.min(Math.max(event.clientX - box.left, this.#tip.offsetWidth / 2), box.width - this.#tip.offsetWidth / 2)}px`;
    say(this.#shown, this.#label(at));
    clearTimeout(this.#rest);
    this.#rest = setTimeout(() => this.#showPicture(at), REST_MS);
  }

  #showPicture(at) {
    if (!this.#kind.hasPictures || !this.#item?.hls || this.#tip.hidden) return;
    const address = pastPicture(this.#item, at);
    if (this.#picture.getAttribute("src") !== address) this.#picture.src = address;
    if (!this.#picture.isConnected) this.#tip.prepend(this.#picture);
  }

  // Any moment

  #goTo(seconds) {
    const start = Math.round(Math.max(seconds, Date.now() / 1000 - Math.max(reach(this.#item) - ASKING_S, 0)));
    location.hash = this.#link(`/from:${iso(start)}`);
  }

  /** Goes to the beginning of the programme that is on; without one, to the oldest that is kept. */
  #goToBeginning() {
    const running = this.#programmes.find((one) => one.state === "running");
    if (running) location.hash = this.#link(`/programme:${running.id}`);
    else this.#goTo(Math.ceil(this.#item.available_from));
  }

  // Clips

  /** Begins or ends to cut: the bar then shows what is around the moment that is looked at. */
  #unfold(isCutting) {
    this.#isCutting = isCutting;
    this.#cut.setAttribute("aria-expanded", String(isCutting));
    this.#clipper.hidden = this.#between.hidden = this.#first.hidden = this.#last.hidden = !isCutting;
    this.#moment.hidden = isCutting;
    this.#clipper.replaceChildren(...(isCutting ? this.#cutting : []));
    if (!isCutting) {
      if (this.#item) this.update(this.#item, this.#programmes);
      return;
    }
    const { available_from: kept, target_duration: newest } = this.#item;
    const behind = this.#item.end ?? Date.now() / 1000 - 2 * newest;
    const date = this.#date()?.getTime() / 1000 || behind;
    this.#bar.hidden = false;
    const to = Math.min(Math.max(date + CLIP_S / 2, kept + CLIP_S), behind);
    const from = Math.max(to - CLIP_S, kept);
    this.#show(Math.max(from - AROUND_S, kept), Math.min(to + AROUND_S, behind));
    for (const one of [this.#first, this.#last]) one.step = String(STEP_S);
    [this.#first.value, this.#last.value] = [String(from), String(to)];
    this.#tellClip();
    this.#first.focus();
  }

  /** Keeps the ends of the clip in their order. */
  #move(moved) {
    const [from, to] = [this.#first.valueAsNumber, this.#last.valueAsNumber];
    if (to - from < LEAST_CLIP_S) moved.value = String(moved === this.#first ? to - LEAST_CLIP_S : from + LEAST_CLIP_S);
    this.#tellClip();
  }

  #tellClip() {
    const [from, to] = [this.#first, this.#last].map((one) => Math.round(one.valueAsNumber * 10) / 10);
    this.#place(this.#between, from, to);
    for (const one of [this.#first, this.#last]) this.#describe(one);
    say(this.#length, `${this.#label(from)} – ${this.#isRecording ? this.#label(to) : time(to)} · ${clock(to - from)}`);
    const view = this.#isRecording ? `${this.#link()}?${inRecording(this.#item, from, to)}` : this.#link(`/clip:${iso(from)}/${iso(to)}`);
    this.#play.href = view;
    this.#file.href = beside(this.#item.hls, this.#kind.clip, { start: iso(from), end: iso(to) });
    // An administrator's own token isn't in the address of the page.
    const isClosed = this.#item.hls.startsWith("/t/") && !location.pathname.startsWith("/t/");
    say(this.#kept, `${this.#keptFor(from)}${isClosed ? " Who opens this address needs a token, which “Share” makes." : ""}`);
    this.#address.value = `${pageUrl()}/${view}`;
    say(this.#copied, "");
  }

  /** Says for how long a clip is there that begins so. */
  #keptFor(from) {
    if (this.#isRecording) return "The clip is there for as long as the recording is kept.";
    const { dvr_seconds: seconds } = this.#item;
    const until = seconds ? `until ${day(from + seconds)}, ${time(from + seconds, "short")} at most` : "for as long as its past is kept";
    return `What the clip shows is there ${until}; to keep it longer, download it or record it.`;
  }

  async #copy() {
    say(this.#copied, (await copied(this.#address)) ? "Copied." : "");
  }
}
