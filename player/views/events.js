// The events view: the channels, and what comes on the one that is open: messages, texts, and their timing.

import { byId, count, el, encodePath, getAll, getList, hasLists, isOwner, itemAddress, makesChannels, say, sayEmpty, syncRows } from "../dom.js";
import { Conversation } from "./conversation.js";
import { EventStream } from "./eventstream.js";
import { FrameQueue } from "./renderqueue.js";
import { Gaps, SCALE } from "./eventtiming.js";
import { TypedTexts, pieceOf } from "./tokencollector.js";

/** Before a relay's name in the page's address; channels of the list have no slash in their names. */
const RELAY = "relay/";
const SVG = "http://www.w3.org/2000/svg";
const MOST_MESSAGES = 100;
const MOST_SHOWN_CHARACTERS = 2000;

const EMPTY = "No event channel is configured. Add an [[events]] section to headwater.toml, or start with --demo.";
const AT_RUN_TIME = "Event channels are made at run time here, by POST /events or their first event; lists don't name them.";
const NO_CHANNELS = "There is no event channel here at the moment.";

const STATES = {
  connecting: "Connecting …",
  waiting: "The connection was lost. Trying again …",
  over: "This channel has ended. It goes on here when somebody publishes again.",
  closed: "",
  missing: "There is no such channel any more.",
  lost: "The server doesn't answer. Press “Go on” to try once more.",
};
const GAUGES = { first: "First event", gap: "Gap", lag: "Lag", reconnects: "Reconnects", events: "Events" };

export class EventsView {
  address = "/api/events";
  everyMs = 4000;
  #items = [];
  #rows = new Map();
  #list = el("ul", { class: "rows" });
  #empty = el("p", { class: "empty", hidden: true });
  #relays = [];
  #relayRows = new Map();
  #relayList = el("ul", { class: "rows" });
  #relayPart = el("div", { hidden: true }, el("h2", {}, "Conversations"), this.#relayList);
  #conversation = new Conversation();
  #detail = null;
  #title = el("h2", {}, "Nothing chosen");
  #facts = el("p", { class: "quiet" });
  #stop = el("button", { class: "edge", type: "button", hidden: true, click: () => this.#toggle() });
  #status = el("p", { class: "status", role: "status", "aria-live": "polite", id: "events-status" });
  #typed = el("p", { class: "typed", dir: "auto", tabindex: 0, "aria-label": "Text", hidden: true });
  #messages = el("ol", { class: "messages", reversed: true, tabindex: 0, "aria-label": "Messages, newest first" });
  #gauges = new Map();
  #svg = document.createElementNS(SVG, "svg");
  #gaps = new Gaps(this.#svg);
  #queue = new FrameQueue((arrived) => this.#render(arrived));
  #text = new TypedTexts();
  /** Readers' keys by channel, only kept in memory. */
  #keys = new Map();
  #form = null;
  #item = null;
  #stream = null;
  #state = "";
  #received = 0;
  #resets = 0;
  /** Called when a channel is being read: the number of its readers has changed. */
  onOpen = () => {};
  /** Offset of the event behind which all are new; those before are replayed, and come at once. */
  #replayedTo = -1;

  constructor() {
    const gauges = Object.entries(GAUGES).map(([name, label]) => {
      const gauge = { value: el("dd", {}, "–"), more: el("dd", { class: "more" }) };
      this.#gauges.set(name, gauge);
      return el("div", {}, el("dt", {}, label), gauge.value, gauge.more);
    });
    this.#svg.setAttribute("aria-hidden", "true");
    this.#svg.id = "gaps";
    const key = el("span", { class: "key bandwidth" }, "Gap before an event");
    this.#detail = el("div", { class: "stage" },
      el("div", { class: "bar" }, el("div", { class: "now" }, this.#title, this.#facts), el("div", { class: "controls" }, this.#stop)),
      this.#status, this.#typed,
      el("dl", { class: "gauges", "aria-label": "Timing now" }, ...gauges),
      el("figure", { class: "graph" }, this.#svg, el("figcaption", {}, key, el("span", { class: "quiet" }, SCALE))),
      this.#messages);
    const lists = el("div", {}, el("div", {}, el("h2", {}, "Channels"), this.#list, this.#empty), this.#relayPart);
    byId("panel-events").append(this.#detail, this.#conversation.node, lists);
  }

  async load(path) {
    if (!hasLists()) return getList(itemAddress("events", path));
    const { channels, relays } = await this.#fetchLists();
    this.#relays = relays;
    return channels;
  }

  async #fetchLists() {
    const [channels, relays] = await Promise.all([getAll(this.address), getAll("/api/relays")]);
    // Without kept answers there is nothing that a conversation could be read on from.
    return { channels, relays: relays.filter(({ kept }) => kept) };
  }

  /** Fetches all that there is to open: channels and relays. */
  async getAll() {
    const { channels, relays } = await this.#fetchLists();
    return [...channels, ...relays];
  }

  update(items) {
    this.#items = items;
    sayEmpty(this.#empty, items, "events", makesChannels() ? AT_RUN_TIME : EMPTY, NO_CHANNELS);
    syncRows(this.#list, this.#rows, items, (item) => item.name, makeRow);
    syncRows(this.#relayList, this.#relayRows, this.#relays, (item) => item.name, makeRelayRow);
    this.#relayPart.hidden = this.#relayRows.size === 0;
    this.#mark();
    const current = items.find((item) => item.name === this.#item?.name);
    if (!current) return;
    this.#item = current;
    say(this.#facts, describe(current));
    if (this.#state === "over" && current.state === "live") this.#stream.open();
    this.#showGauges();
  }

  /** Adds a channel that the address names to those of the list. */
  add(item) {
    this.update([...this.#items, item]);
  }

  /** Whether the list has a path's channel. */
  finds(path) {
    return this.#items.some((each) => each.name === path) || this.#relayOf(path) !== undefined;
  }

  #relayOf(path) {
    return this.#relays.find(({ name }) => path === RELAY + name);
  }

  enter(path) {
    // Where there are conversations alone, the first one is open.
    const relay = this.#relayOf(path) ?? (path || this.#items.length > 0 ? null : this.#relays[0]);
    // Without a channel there is nothing to be shown of one.
    this.#detail.hidden = Boolean(relay) || (!path && this.#items.length === 0);
    if (relay) {
      this.#close();
      this.#item = null;
      this.#conversation.open(relay);
      this.#mark();
      return;
    }
    this.#conversation.close();
    const item = path ? this.#items.find((each) => each.name === path) : (this.#item ?? this.#items[0]);
    if (item && item.name === this.#item?.name && this.#stream) return;
    this.#open(item);
    if (!item && path) say(this.#status, `There is no event channel “${path}”.`);
  }

  /** Reads no more: what the channel keeps is replayed when the view is entered again. */
  leave() {
    this.#conversation.close();
    this.#close();
    this.#item = null;
  }

  /** For tests and scripts. */
  stats() {
    return Object.freeze({
      channel: this.#item?.name ?? null,
      state: this.#state,
      lastId: this.#stream?.lastId ?? "",
      received: this.#received,
      resets: this.#resets,
      reconnects: this.#stream?.reconnects ?? 0,
      firstEventMs: this.#stream?.firstEventMs ?? null,
      gapMs: this.#gaps.quantile(0.5),
      lag: this.#lag,
      renders: this.#queue.renders,
      waiting: this.#queue.length,
      skipped: this.#queue.skipped,
      text: this.#text.text,
      pieces: this.#text.pieces,
      conversation: this.#conversation.stats(),
    });
  }

  #close() {
    this.#stream?.close();
    this.#stream = null;
    this.#queue.clear();
    this.#form?.remove();
    this.#form = null;
  }

  #open(item) {
    this.#close();
    this.#item = item ?? null;
    this.#state = "";
    this.#received = this.#resets = this.#queue.skipped = 0;
    this.#text.clear();
    this.#gaps.clear();
    this.#messages.replaceChildren();
    say(this.#status, "");
    say(this.#title, item?.name ?? "Nothing chosen");
    say(this.#facts, item ? describe(item) : "");
    this.#mark();
    this.#showText();
    this.#showGauges();
    this.#showStop();
    if (!item) return;
    if (item.protected && item.last_id === null && !this.#keys.has(item.name)) this.#ask("");
    else this.#connect();
  }

  #connect() {
    const key = this.#keys.get(this.#item.name) ?? "";
    this.#replayedTo = offsetOf(this.#item.last_id);
    this.#stream = new EventStream(this.#item.url, key, {
      event: (event) => this.#arrive(event),
      state: (state, reason) => this.#become(state, reason),
    });
    this.#stream.open();
  }

  #become(state, reason = "") {
    this.#state = state;
    say(this.#status, state === "waiting" && reason ? `${reason} Trying again …` : STATES[state] ?? "");
    if (state === "open") this.onOpen();
    else this.#gaps.interrupt();
    if (state === "closed") {
      const wasGiven = this.#keys.delete(this.#item.name);
      this.#ask(wasGiven ? `That isn't the key of this channel. ${reason}` : "");
    }
    this.#showStop();
    this.#showGauges();
  }

  #arrive(event) {
    this.#received += 1;
    if (event.event === "reset") this.#resets += 1;
    this.#queue.push({ event, at: performance.now() });
  }

  /** Shows what has come since the frame before. */
  #render(arrived) {
    const messages = [];
    for (const { event, at } of arrived) {
      const isNew = offsetOf(event.id) > this.#replayedTo;
      if (event.event === "reset") this.#replayedTo = -1;
      if (isNew) this.#gaps.push(at);
      const piece = pieceOf(event);
      if (piece === null) messages.push({ event, isNew });
      else this.#text.add(piece);
    }
    const shown = messages.slice(-MOST_MESSAGES).reverse();
    this.#messages.prepend(...shown.map(({ event, isNew }) => makeMessage(event, isNew)));
    while (this.#messages.childElementCount > MOST_MESSAGES) this.#messages.lastElementChild.remove();
    this.#gaps.draw();
    this.#showText();
    this.#showGauges();
  }

  #showText() {
    this.#typed.hidden = this.#text.pieces === 0;
    const isAtEnd = this.#typed.scrollHeight - this.#typed.scrollTop - this.#typed.clientHeight < 40;
    say(this.#typed, this.#text.text);
    this.#typed.classList.toggle("open", this.#text.isOpen);
    if (isAtEnd) this.#typed.scrollTop = this.#typed.scrollHeight;
  }

  /** Events that the channel had and this page hadn't, when the list was fetched; null while that is unknown. */
  get #lag() {
    const [newest, own] = [this.#item?.last_id, this.#stream?.lastId];
    if (!newest || !own || epochOf(newest) !== epochOf(own)) return null;
    return Math.max(0, offsetOf(newest) - offsetOf(own));
  }

  #showGauges() {
    const [typical, long, longest] = [0.5, 0.95, 0.99].map((share) => this.#gaps.quantile(share));
    const lag = this.#lag;
    const { skipped } = this.#queue;
    this.#gauge("first", this.#stream?.firstEventMs ?? null, "after asking for it");
    this.#gauge("gap", typical, longest === null ? "" : `95 of 100 within ${duration(long)}, 99 within ${duration(longest)}`);
    this.#write("lag", lag === null ? "–" : count(lag, "event", "events"),
      this.#item?.lag ? `${this.#item.lag} for the slowest reader` : "behind the channel");
    this.#write("reconnects", String(this.#stream?.reconnects ?? 0), this.#resets ? `${count(this.#resets, "gap", "gaps")} told of` : "");
    this.#write("events", String(this.#received), skipped ? `${skipped} not shown` : "received");
  }

  #gauge(name, milliseconds, more) {
    this.#write(name, milliseconds === null ? "–" : duration(milliseconds), milliseconds === null ? "" : more);
  }

  #write(name, value, more) {
    const gauge = this.#gauges.get(name);
    say(gauge.value, value);
    say(gauge.more, more);
  }

  get #isReading() {
    return ["connecting", "open", "waiting", "over"].includes(this.#state);
  }

  #showStop() {
    this.#stop.hidden = !this.#stream || this.#state === "closed" || this.#state === "missing";
    say(this.#stop, this.#isReading ? "Stop" : "Go on");
    this.#stop.classList.toggle("at-edge", this.#isReading);
  }

  #toggle() {
    if (this.#isReading) {
      this.#stream.close();
      this.#become("stopped");
    } else {
      this.#stream.open();
    }
  }

  /** Asks for the channel's key; the stream's answer says whether it is the right one. */
  #ask(wrong) {
    this.#form?.remove();
    const input = el("input", { type: "password", autocomplete: "current-password", "aria-label": "Key" });
    const said = el("p", { class: "status", role: "alert" }, wrong);
    this.#form = el("form", { class: "password" }, "This channel needs a key.", input, el("button", { type: "submit" }, "Read"), said);
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!input.value) return;
      this.#keys.set(this.#item.name, input.value);
      this.#form.remove();
      this.#connect();
    });
    this.#title.parentElement.append(this.#form);
    input.focus();
  }

  #mark() {
    for (const [name, row] of this.#rows) row.mark(name === this.#item?.name);
    for (const [name, row] of this.#relayRows) row.mark(name === this.#conversation.name);
  }
}

const epochOf = (id) => id.slice(0, id.lastIndexOf("-"));
const offsetOf = (id) => (id ? Number(id.slice(id.lastIndexOf("-") + 1)) : -1);

const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

function describe(item) {
  return [
    item.state === "ended" && "over",
    item.state === null && "for readers with a key",
    isOwner() && item.readers !== null && count(item.readers, "reader", "readers"),
    isOwner() && item.published !== null && count(item.published, "event published", "events published"),
  ].filter(Boolean).join(" · ");
}

function makeMessage({ event, data }, isNew) {
  const cut = data.length > MOST_SHOWN_CHARACTERS ? `${data.slice(0, MOST_SHOWN_CHARACTERS)} …` : data;
  const time = isNew && new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  return el("li", {}, el("span", { class: "type" }, event), el("span", { class: "data", dir: "auto" }, cut),
    ...(time ? [el("time", { class: "quiet" }, time)] : []));
}

function makeRelayRow({ name }) {
  const link = el("a", { class: "row", href: `#events/${encodePath(RELAY + name)}` }, el("span", { class: "name" }, name));
  return { node: el("li", {}, link), mark: (on) => markCurrent(link, on), update() {} };
}

function markCurrent(link, on) {
  if (on) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}

function makeRow(item) {
  const facts = el("span", { class: "quiet state" });
  const dot = el("span", { class: "dot", "aria-hidden": "true" });
  const link = el("a", { class: "row", href: `#events/${encodePath(item.name)}` }, el("span", { class: "name" }, dot, item.name), facts);
  return {
    node: el("li", {}, link),
    mark: (on) => markCurrent(link, on),
    update(now) {
      dot.dataset.state = now.state ?? "";
      say(facts, describe(now));
    },
  };
}
