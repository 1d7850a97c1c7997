// The radio view: one audio element for all stations and what they have played, its volume, and reconnection.

import { byId, clock, el, encodePath, presented, say, sayEmpty, syncRows } from "../dom.js";
import * as session from "../controls/mediasession.js";
import { Meter } from "../instruments/audiometer.js";
import { NowPlaying, newToken } from "./nowplaying.js";
import { OF_STATION, Past, spanIn } from "./past.js";
import { Playback } from "../playback.js";
import { Programmes } from "./programmes.js";
import { lookAt, refusalOf } from "../refusal.js";
import { Progress, Retry } from "../retry.js";
import { Recordings, withItem } from "./recordings.js";
import { Tables } from "./tables.js";
import { Television } from "./television.js";
import { StationCard, isClosed } from "./station.js";
import { addressesOf } from "../engines/playmodes.js";
import { joinVolume } from "../controls/volume.js";

const EMPTY = "No station is configured. Add a [[radio]] section to headwater.toml, or start with --demo.";
const NO_STATIONS = "There is no station here at the moment.";

const TITLE_CLASS = "headwater.title";

const CHECK_EVERY_MS = 500;
const FOLLOW_EVERY_MS = 200;
/** The longest wait of who listens to a station that is back on air. */
const BACK_MS = 2000;
const STUCK_MS = 8000;
const BACK_STUCK_MS = 4000;

export class RadioView {
  address = "/api/radio";
  everyMs = 4000;
  audio = new Audio();
  #sharing;
  #items = [];
  #rows = new Map();
  #playing = null;
  /** What plays of the station's past, or which recording: {key, title, hls, dash}; null where it is live. */
  #span = null;
  /** The path that was entered, or is played, last. */
  #wanted = "";
  #earlier = new Playback(this.audio);
  /** Listeners' passwords by station, only kept in memory. */
  #keys = new Map();
  #retry = new Retry(BACK_MS);
  #progress = new Progress();
  #now = new NowPlaying(this.audio);
  #shown = "";
  #meter = new Meter(this.audio, () => (byId("panel-radio").hidden ? null : this.#card?.canvas));
  #list = el("ul", { class: "stations" });
  #recordings = new Recordings("radio", true);
  #position = el("input", { type: "range", step: "any", min: 0, "aria-label": "Position in the recording" });
  #toLive = el("a", { class: "plain" }, "Back to live");
  #moving = el("div", { class: "moving" }, this.#position, this.#toLive);
  #status = el("p", { class: "status", role: "status", "aria-live": "polite", id: "radio-status" });
  #empty = el("p", { class: "empty", hidden: true });
  #television = new Television();
  #tables = new Tables("radio", () => this.onChange());
  /** @param ask called with a sentence where the admin token is needed */
  set onUnauthorized(ask) {
    this.#tables.onUnauthorized = ask;
  }

  /** Called when the list is to be loaded again. */
  onChange = () => {};

  /** @param onPlay called when a station begins, so that other media can be stopped; sharing offers to share stations */
  constructor(onPlay, sharing) {
    this.onPlay = onPlay;
    this.#sharing = sharing;
    this.audio.preload = "none";
    byId("panel-radio").append(
      el("div", { class: "dial" }, el("h2", {}, "Stations"), volumeControls(this.audio)),
      this.#list, this.#empty, this.#status, this.#recordings.node, this.#television.node, this.#tables.node);
    this.#position.addEventListener("input", () => { this.audio.currentTime = this.#position.valueAsNumber; });
    this.#earlier.addEventListener("message", ({ detail }) => this.#span && say(this.#status, detail));
    for (const change of ["play", "pause"]) this.audio.addEventListener(change, () => this.#show());
    for (const trouble of ["error", "ended"]) this.audio.addEventListener(trouble, () => this.#lost());
    this.audio.addEventListener("playing", () => {
      say(this.#status, "");
      session.setState("playing", this);
    });
    this.audio.addEventListener("pause", () => {
      if (!this.#playing || !this.audio.paused || this.audio.ended) return;
      // By the browser: headphones that were pulled out, a call. Live goes on meanwhile, so it isn't kept.
      if (this.#span) session.setState("paused", this);
      else this.#pause();
    });
    this.audio.addEventListener("stalled", () => {
      if (this.#playing && this.audio.readyState < HTMLMediaElement.HAVE_FUTURE_DATA) say(this.#status, "The station is silent. Waiting for it …");
    });
    setInterval(() => this.#check(), CHECK_EVERY_MS);
    setInterval(() => this.#follow(), FOLLOW_EVERY_MS);
  }

  get analyser() {
    return this.#meter.analyser;
  }

  get #card() {
    return this.#playing && this.#rows.get(this.#playing.name)?.card;
  }

  update(items) {
    const playing = (list) => list.find((item) => item.name === this.#playing?.name);
    const isBack = playing(items)?.state === "live" && playing(this.#items)?.state !== "live";
    this.#items = items;
    if (isBack) {
      this.#progress.expect(BACK_STUCK_MS);
      this.#retry.now();
    }
    this.#television.update(items);
    this.#tables.update();
    sayEmpty(this.#empty, items, "radio", EMPTY, NO_STATIONS);
    syncRows(this.#list, this.#rows, items, (item) => item.name, (item) => this.#makeRow(item));
    this.#recordings.update(items);
    this.#show();
  }

  /** Adds a station that the address names, or its recording, to those of the list. */
  add(item) {
    this.update(withItem(this.#items, item));
  }

  /** Whether the list has a path's station or recording. */
  finds(path) {
    const name = spanIn(path)?.channel ?? this.#recordings.find(path)?.name ?? path;
    return this.#items.some((each) => each.name === name);
  }

  enter(path) {
    if (!path || (this.#playing && path === (this.#span?.key ?? this.#playing.name))) return;
    this.#wanted = path;
    const span = spanIn(path);
    const recording = this.#recordings.find(path);
    const name = span?.channel ?? recording?.name ?? path;
    const item = this.#items.find((each) => each.name === name);
    if (recording) this.play(item, recording);
    else if (!item) say(this.#status, `There is no station “${name}”.`);
    else if (!span) this.play(item);
    else if (item.hls) this.#enterSpan(item, path, span);
    else say(this.#status, `Nothing is kept of what “${name}” has played.`);
  }

  /** Plays a moment, a clip or, once its title is known, a programme of a station's past. */
  async #enterSpan(item, path, span) {
    const { past, programmes } = this.#rows.get(item.name);
    past.node.open = true;
    if (span.id) await programmes.update(item);
    if (this.#wanted !== path) return;
    this.play(item, span.id ? programmes.find(item.name, span.id, item.hls) : past.find(item, path, span));
  }

  /** @param span of its past, as Past and Programmes find it; null for what is live */
  play(item, span = null) {
    this.stop();
    this.#wanted = span?.key ?? item.name;
    if (isClosed(item) && !this.#keys.has(item.name)) {
      this.#rows.get(item.name).card.ask((key) => this.#unlock(item, key));
      return;
    }
    this.#playing = item;
    this.#span = span;
    this.onPlay();
    this.#meter.listen();
    const goOn = () => (span && span === this.#span ? this.#earlier.play() : this.play(item, span));
    session.begin({ play: goOn, pause: () => this.#pause(), stop: () => this.stop() }, this);
    this.#connect();
    this.#show();
  }

  /** Plays a station if this is its password; else gives the reason. */
  async #unlock(item, key) {
    const { status, lines } = await lookAt(`${item.url}?key=${encodeURIComponent(key)}`);
    if (status === 401) return "That isn't the password of this station.";
    if (!status) return "The station doesn't answer.";
    const refusal = refusalOf({ status, lines });
    if (refusal) return refusal;
    this.#keys.set(item.name, key);
    this.play(item);
    return "";
  }

  stop() {
    this.#silence();
    this.audio.removeAttribute("src");
    this.audio.load();
    session.setState("none", this);
  }

  level() {
    return this.#meter.level();
  }

  /** Silent, but to be continued from the lock screen, which forgets an element without a source. */
  #pause() {
    if (this.#span) this.audio.pause();
    else this.#silence();
    session.setState("paused", this);
  }

  #silence() {
    this.#retry.reset();
    this.#progress.reset();
    this.#now.close();
    this.#playing = this.#span = null;
    this.#shown = "";
    this.audio.pause();
    this.#earlier.close();
    say(this.#status, "");
    this.#show();
  }

  #connect() {
    if (this.#span) {
      const { key, title, hls, dash } = this.#span;
      const [mode, url] = Object.entries(addressesOf({ hls, dash }))[0] ?? ["hls", hls];
      this.#earlier.open({ key, mode, url, isLive: false, about: { title }, start: 0, buffer: 0, level: -1 }, true);
      return;
    }
    const query = new URLSearchParams({ listener: newToken() });
    const key = this.#keys.get(this.#playing.name) ?? presented();
    if (this.#playing.protected && key) query.set("key", key);
    this.#now.open(this.#playing.events, query);
    this.audio.src = `${this.#playing.url}?${query}`;
    this.audio.play().catch((error) => {
      if (error.name !== "NotAllowedError") return;
      this.stop();
      say(this.#status, "Press play to listen: the browser waits for your word.");
    });
  }

  #lost() {
    if (!this.#playing || !this.audio.hasAttribute("src")) return;
    if (this.#span) {
      if (this.audio.ended) this.#end();
      return;
    }
    // Also said by a machine without a sound device.
    const unplayable = this.audio.error?.code === MediaError.MEDIA_ERR_DECODE;
    const willTry = this.#retry.later(() => this.#connect());
    if (!willTry) this.stop();
    const reason = unplayable ? "The sound can't be played." : "The station went away.";
    say(this.#status, willTry ? `${reason} Trying again …` : "The station doesn't answer. Press play to try once more.");
    if (willTry) this.#sayRefusal();
  }

  /** Says why the server refuses a station, where it does: the element has no status. */
  async #sayRefusal() {
    const address = this.audio.src;
    const refusal = refusalOf(await lookAt(address));
    if (refusal && this.#playing && this.audio.src === address) say(this.#status, `${refusal} Trying again …`);
  }

  /** Ends what was heard of the past; its address can be entered again. */
  #end() {
    this.stop();
    history.replaceState(null, "", "#radio");
  }

  #check() {
    if (!this.#playing || this.#span) return;
    this.#progress.check(this.audio, STUCK_MS, {
      moved: () => {
        if (this.#retry.attempts === 0 || this.#retry.pending) return;
        this.#retry.reset();
        say(this.#status, "");
      },
      stuck: () => this.#lost(),
    });
  }

  /** Shows the time of day, and the title of then, of what is heard of the past. */
  #followSpan() {
    const date = this.#earlier.dateAt(this.audio.currentTime);
    const ranges = Object.values(this.#earlier.engine?.hls?.latestLevelDetails?.dateRanges ?? {});
    const range = date && ranges.findLast((one) => one.class === TITLE_CLASS && one.startDate <= date && (one.endDate ?? Infinity) > date);
    const title = range?.attr["X-TITLE"] ?? "";
    const isMoment = Boolean(spanIn(this.#span.key)?.start);
    this.#card?.showMoment(date, title || (isMoment ? "" : this.#span.title));
    this.#showPosition();
    const shown = title || this.#span.title;
    if (shown === this.#shown) return;
    this.#shown = shown;
    session.show(shown, this.#playing.station || this.#playing.name);
  }

  /** Shows how much of a recording has been heard, unless somebody is about to move there. */
  #showPosition() {
    const { currentTime, duration } = this.audio;
    if (this.#position.matches(":active") || !Number.isFinite(duration)) return;
    this.#position.max = String(duration);
    this.#position.value = String(currentTime);
    this.#position.setAttribute("aria-valuetext", `${clock(currentTime)} of ${clock(duration)}`);
  }

  /** Shows a title when it is heard. */
  #follow() {
    if (this.#span) {
      this.#followSpan();
      return;
    }
    const heard = this.#playing ? this.#now.heard() : [];
    const current = heard.at(-1);
    const key = current && `${current.media_time} ${current.title}`;
    if (!current || key === this.#shown) return;
    this.#shown = key;
    this.#card?.showTitles(heard);
    session.show(current.title, this.#playing.station || this.#playing.name);
  }

  #show() {
    const isPaused = this.#span && this.audio.paused;
    for (const [name, { card }] of this.#rows) card.mark(name === this.#playing?.name && !isPaused);
    this.#recordings.mark(this.#span?.key ?? "", this.#moving);
    if (this.#playing) this.#toLive.href = `#radio/${encodePath(this.#playing.name)}`;
  }

  #makeRow(item) {
    const { name } = item;
    const isOn = () => name === this.#playing?.name;
    const current = () => this.#items.find((each) => each.name === name) ?? item;
    const card = new StationCard(item, () => {
      const on = isOn();
      if (on && this.#span) {
        if (this.audio.paused) this.#earlier.play();
        else this.audio.pause();
        return;
      }
      if (on) this.stop();
      else this.play(current());
      history.replaceState(null, "", on ? "#radio" : `#radio/${encodePath(name)}`);
    }, this.#sharing);
    const programmes = new Programmes("radio");
    const past = new Past(OF_STATION, () => (isOn() && this.#span ? this.#earlier.dateAt(this.audio.currentTime) : null));
    const showPast = async (now) => {
      past.update(now, programmes.listed);
      if (past.node.hidden || !past.isOpen) return;
      await programmes.update(now);
      past.update(now, programmes.listed);
    };
    past.node.addEventListener("toggle", () => showPast(current()));
    card.node.insertBefore(past.node, card.canvas);
    const update = (now) => {
      card.update(now);
      showPast(now);
      if (isOn() && this.#span) return;
      const sent = [...(now.history ?? []), now.now].filter(Boolean);
      const heard = name === this.#playing?.name ? this.#now.heard() : sent;
      // Just reconnected: keep the last title until a new one is known.
      if (heard.length || !this.#shown) card.showTitles(heard.length ? heard : sent);
    };
    return { node: card.node, card, past, programmes, update };
  }
}

/** The volume slider and the mute button. */
function volumeControls(audio) {
  const slider = el("input", { type: "range", min: 0, max: 1, step: 0.05, id: "volume", "aria-label": "Volume" });
  const mute = el("button", { type: "button", class: "mute" }, "Mute");
  joinVolume(audio, slider, mute);
  return el("div", { class: "volume" }, mute, el("label", { class: "field" }, el("span", {}, "Volume"), slider));
}
