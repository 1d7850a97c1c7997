// The live view: plays a channel when it is opened, updates states and numbers, and lists recordings.

import { byId, count, el, encodePath, isAdministrator, isOwner, marker, presented, say, sayEmpty, secondsOf, syncRows } from "../dom.js";
import { addressesOf } from "../engines/playmodes.js";
import { EventControls } from "./eventcontrols.js";
import { OF_CHANNEL, OF_RECORDING, Past, spanIn } from "./past.js";
import { Programmes } from "./programmes.js";
import { PublisherPanel } from "./publisher.js";
import { Recordings, withItem } from "./recordings.js";
import { Tables } from "./tables.js";
import { Television } from "./television.js";
import { keep, recall } from "../storage.js";

const STATES = {
  live: "on air",
  starting: "starting",
  down: "down: the channel goes on by itself once its source is back",
  idle: "waiting for a publisher",
  slate: "waiting for a publisher, with a slate",
  ended: "over",
};

/** The state of a channel; one that shows its slate is on air for players alone. */
const stateOf = ({ state, publisher }) => (state === "live" && publisher?.on_air === false ? "slate" : state);

/** Words for each state in which a channel has no picture; a channel that is on air needs none. */
const OFF_AIR = {
  starting: "The channel is starting.",
  down: "The channel’s source is gone. It goes on here by itself as soon as it is back.",
  idle: "Nobody publishes to this channel at the moment. It begins here by itself.",
  ended: "The event is over.",
};

const EMPTY = "No channel is configured. Add a [[live]] section to headwater.toml, or start with --demo.";
const NO_CHANNELS = "There is no live channel here at the moment.";

const KNOWN_MS = 4000;

/** How soon the list is asked for again while the channel that is looked at has no picture yet. */
const AWAITED_MS = { starting: 1000, down: 2000, idle: 2000 };

export class LiveView {
  address = "/api/live";
  #items = [];
  /** The channel that is looked at while it has nothing to play, and its options; null for none. */
  #awaited = null;
  /** The path that was entered last. */
  #wanted = "";
  #rows = new Map();
  #list = el("ul", { class: "rows" });
  #publisher = new PublisherPanel();
  #event = new EventControls();
  /** What is for who runs the channel, and no viewer's affair: folded up until it is asked for. */
  #operator = el("details", { class: "operator", hidden: true }, el("summary", { click: () => keep("operator", !this.#operator.open) }, "Operate this channel"), this.#event.node, this.#publisher.node);
  #programmes = new Programmes("live");
  #past;
  /** Cuts clips of the recording that plays. */
  #cutter;
  #recordings = new Recordings("live");
  #empty = el("p", { class: "empty", hidden: true });
  #television = new Television();
  #tables = new Tables("live", (name, made) => this.#showMade(name, made));
  #load = () => {};

  constructor(stage) {
    this.stage = stage;
    this.#past = new Past(OF_CHANNEL, () => stage.playback.dateAt(stage.playback.video.currentTime));
    const moment = ({ available_from: start }) => new Date(1000 * (start + stage.playback.video.currentTime));
    this.#cutter = new Past(OF_RECORDING, () => moment(this.#playedRecording));
    byId("panel-live").append(el("h2", {}, "Channels"), this.#list, this.#empty, this.#past.node, this.#programmes.node, this.#recordings.node, this.#television.node, this.#operator, this.#tables.node);
  }

  /** @param ask called with a sentence where the admin token is needed, or without one where the given one is wrong */
  set onUnauthorized(ask) {
    this.#event.onUnauthorized = ask;
    this.#tables.onUnauthorized = ask;
  }

  /** @param load called when the list is to be loaded again */
  set onChange(load) {
    this.#event.onChange = load;
    this.#load = load;
  }

  /** Leads to a channel that was made or changed, with its key if that was made, too. */
  async #showMade(name, made) {
    if (made?.publish_key && !made.publish_key.startsWith("*")) this.#publisher.reveal(name, made.publish_key);
    await this.#load();
    if (name) this.#operator.open = true;
    if (name) location.hash = `#live/${encodePath(name)}`;
  }

  /** Adds a channel that the address names, or its recording, to those of the list. */
  add(item) {
    this.update(withItem(this.#items, item));
  }

  /** Whether the list has a path's channel or recording, or the channel of its programme. */
  finds(path) {
    const name = spanIn(path)?.channel;
    if (name) return this.#items.some((item) => item.name === name);
    return this.#items.some((item) => item.name === path) || Boolean(this.#recordings.find(path));
  }

  /** Polling interval: shorter while the channel that is looked at is to begin. */
  get everyMs() {
    return AWAITED_MS[this.#current?.state] ?? KNOWN_MS;
  }

  get #current() {
    const key = this.#awaited?.name ?? this.stage.playback.source?.key;
    const name = (key && spanIn(key)?.channel) ?? key;
    return this.#items.find((item) => item.name === name);
  }

  update(items) {
    this.#items = items;
    this.#television.update(items);
    this.#tables.update();
    // The next event of a channel that had nothing to play.
    const begun = this.#awaited && items.find((item) => item.name === this.#awaited.name && item.hls);
    if (begun) this.enter(begun.name, this.#awaited.options);
    sayEmpty(this.#empty, items, "live", EMPTY, NO_CHANNELS);
    syncRows(this.#list, this.#rows, items, (item) => item.name, makeRow);
    this.#recordings.update(items);
    const current = this.#current;
    const isWhole = current && current.name === (this.#awaited?.name ?? this.stage.playback.source?.key);
    if (isWhole) say(byId("facts"), describe(current));
    this.#tellPlayback(isWhole ? current : undefined);
    this.#showCutter();
    this.#showOwner(current);
    this.#showPast(current);
  }

  async #showPast(item) {
    this.#past.update(item, this.#programmes.listed);
    await this.#programmes.update(item);
    if (item === this.#current) this.#past.update(item, this.#programmes.listed);
  }

  /** The recording that plays, as `Past` cuts it; undefined for anything else. */
  get #playedRecording() {
    const found = this.#recordings.find(this.stage.playback.source?.key);
    return found && { ...found, name: found.key, available_from: found.start, end: found.start + found.duration };
  }

  #showCutter() {
    const played = this.#playedRecording;
    this.#cutter.update(played, []);
    if (!played) this.#cutter.node.remove();
    else if (!this.#cutter.node.isConnected) this.#past.node.after(this.#cutter.node);
  }

  #showOwner(item) {
    this.#publisher.update(item);
    this.#event.update(item);
    const isEmpty = this.#publisher.node.hidden && this.#event.node.hidden;
    if (this.#operator.hidden && !isEmpty) this.#operator.open = recall("operator", false) || presented() !== "";
    this.#operator.hidden = isEmpty;
  }

  /** @param path of the channel or the recording, "" for the first channel; options from the address: mode */
  enter(path, options) {
    this.#wanted = path;
    if (!path && this.stage.playback.source) return undefined;
    this.#awaited = null;
    this.#cutter.node.remove();
    const span = spanIn(path);
    const name = span?.channel ?? path;
    const item = path ? this.#items.find((each) => each.name === name) : this.#items[0];
    const recording = this.#recordings.find(path);
    for (const [each, row] of this.#rows) row.mark(each === item?.name && !span);
    this.#recordings.mark(recording?.key ?? "");
    this.#showOwner(item);
    this.#programmes.mark(span ? path : "");
    if (span && item) {
      this.#enterSpan(path, span, item, options);
      return undefined;
    }
    if (recording) {
      this.#present(recording, recording.key, recording.title, recording.facts, options);
      this.#showCutter();
      return undefined;
    }
    if (!item) return this.stage.clear(path ? `There is no channel “${path}”.` : "");
    this.#showPast(item);
    if (!item.hls) {
      this.#awaited = { name: item.name, options };
      return this.stage.clear(`${item.name}: ${OFF_AIR[item.state] ?? "There is nothing to play."}`);
    }
    this.#present(item, item.name, item.name, describe(item), options);
    this.#tellPlayback(item);
    return undefined;
  }

  /** Plays a programme, once its title is known, or a moment or a clip. */
  async #enterSpan(path, span, item, options) {
    await this.#showPast(item);
    if (this.#wanted !== path) return;
    if (!span.id && !item.hls) {
      this.stage.clear(`${item.name}: ${OFF_AIR[item.state] ?? "There is nothing to play."}`);
      return;
    }
    const found = span.id ? this.#programmes.find(item.name, span.id, item.hls) : this.#past.find(item, path, span);
    this.#present({ ...found, past: item }, found.key, found.title, found.facts, options);
    this.#tellPlayback(undefined);
  }

  #tellPlayback(item) {
    this.stage.playback.setChannel(item?.state ?? "", OFF_AIR[item?.state] ?? "");
  }

  leave() {
    this.#awaited = null;
    this.#wanted = "";
    this.#showOwner(undefined);
  }

  #present(item, key, title, facts, options) {
    const addresses = addressesOf({ hls: item.hls, dash: item.dash });
    const wanted = options.get("mode");
    const mode = Object.hasOwn(addresses, wanted) ? wanted : Object.keys(addresses)[0];
    const { playback } = this.stage;
    const isSame = playback.source?.key === key;
    const number = (name) => secondsOf(options.get(name) ?? "");
    const end = number("end");
    if (isSame && playback.source.mode === mode && playback.source.end === end) return;
    const isLive = key === item.name;
    this.stage.present({
      title,
      facts,
      modes: Object.keys(addresses),
      shared: item.hls,
      source: {
        key,
        mode,
        isLive,
        about: { title },
        url: addresses[mode],
        past: isLive ? item : item.past,
        start: options.has("t") ? number("t") : isSame && !isLive ? playback.video.currentTime : 0,
        end,
        date: isSame && isLive ? playback.woundBackTo : null,
        buffer: 0,
        level: -1,
      },
    }, !isSame || !playback.video.paused);
  }
}

function describe(item) {
  return [
    STATES[stateOf(item)] ?? item.state,
    item.renditions?.join(", "),
    isAdministrator() && item.part_target && `parts of ${Number(item.part_target.toFixed(3))} s`,
    isOwner() && count(item.viewers ?? 0, "viewer", "viewers"),
    isAdministrator() && item.restarts && `${count(item.restarts, "restart", "restarts")}`,
  ].filter(Boolean).join(" · ");
}

function makeRow(item) {
  const facts = el("span", { class: "quiet state" });
  const dot = el("span", { class: "dot", "aria-hidden": "true" });
  const link = el("a", { class: "row", href: `#live/${encodePath(item.name)}` },
    el("span", { class: "name" }, dot, item.name), facts);
  return {
    node: el("li", {}, link),
    mark: marker(link),
    update(now) {
      dot.dataset.state = stateOf(now);
      say(facts, describe(now));
    },
  };
}
