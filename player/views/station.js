// A station's card: current title, earlier titles, and the play button.

import { count, el, isOwner, say, serverUrl, syncRows } from "../dom.js";

const STATES = { starting: "Starting", down: "Silent at the moment" };
const WAITS_FOR = { source: "Waiting for a source", listener: "Waiting for a listener" };
const KINDS = { "audio/mpeg": "MP3", "audio/aac": "AAC", "application/ogg": "Ogg" };
const MOST_BEFORE = 8;
const FOR_LISTENERS = "For listeners with a password";

const stateOf = (item) => STATES[item.state] ?? WAITS_FOR[item.waits_for];

/** Whether a station needs a password that was not entered yet. */
export const isClosed = (item) => item.protected && item.state === null;

export class StationCard {
  #name = el("span", {});
  #mount = el("span", { class: "quiet" });
  #song = el("p", { class: "song", dir: "auto" });
  #facts = el("p", { class: "quiet state" });
  #before = el("ol", { class: "before", reversed: true });
  #past = el("details", { class: "past", hidden: true }, el("summary", {}, "Played before"), this.#before);
  #rows = new Map();
  #item;
  #about;
  #sharing;
  #share;
  #form = null;
  canvas = el("canvas", { class: "meter", "aria-hidden": "true" });

  /** @param toggle called when the button is pressed; sharing makes the button that shares the station */
  constructor(item, toggle, sharing) {
    this.button = el("button", { class: "play", type: "button", click: toggle });
    const links = el("p", { class: "quiet links" }, el("a", { href: item.url }, serverUrl() + item.url));
    if (item.hls) links.append(" · ", el("a", { href: item.hls, title: "For phones and players of HLS" }, "HLS"));
    this.#sharing = sharing;
    this.#share = sharing.makeButton("Share", () => item.url, (form) => this.#about.append(form));
    this.#about = el("div", { class: "about" },
      el("h3", {}, this.#name, " ", this.#mount), this.#song, this.#facts, links, this.#share);
    this.node = el("li", { class: "station" }, this.button, this.#about, this.#past, this.canvas);
  }

  update(item) {
    this.#item = item;
    this.#sharing.offer(this.#share, item.url);
    say(this.#name, item.station || item.name);
    say(this.#mount, item.station && item.station !== item.name ? item.name : "");
    say(this.#facts, isClosed(item) ? "" : [
      item.title && stateOf(item),
      isOwner() && count(item.listeners ?? 0, "listener", "listeners"),
      item.bitrate && `${item.bitrate} kbit/s`,
      KINDS[item.media_type],
    ].filter(Boolean).join(" · "));
  }

  /**
   * Asks for the listeners' password.
   * @param answer called with it; gives what was wrong with it, or "" when the station opens
   */
  ask(answer) {
    this.#form?.remove();
    const input = el("input", { type: "password", autocomplete: "current-password", "aria-label": "Password" });
    const wrong = el("p", { class: "status", role: "alert" });
    this.#form = el("form", { class: "password" }, input, el("button", { type: "submit" }, "Listen"), wrong);
    this.#form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (!input.value) return;
      const form = this.#form;
      const reason = await answer(input.value);
      say(wrong, reason);
      if (!reason) form.remove();
    });
    this.#about.append(this.#form);
    input.focus();
  }

  /** Shows the time of day of what is heard of its past, and the title of then. */
  showMoment(date, title) {
    say(this.#song, [date?.toLocaleTimeString([], { timeStyle: "medium" }), title].filter(Boolean).join(" · "));
    this.#past.hidden = true;
  }

  /** @param titles oldest first, up to the one that plays */
  showTitles(titles) {
    say(this.#song, titles.at(-1)?.title || stateOf(this.#item) || (isClosed(this.#item) ? FOR_LISTENERS : "No title"));
    const before = titles.slice(0, -1).filter((each) => each.title).slice(-MOST_BEFORE).reverse();
    this.#past.hidden = before.length === 0;
    syncRows(this.#before, this.#rows, before, (each) => `${each.media_time} ${each.started}`, makeTitle);
  }

  mark(on) {
    this.node.classList.toggle("on", on);
    this.button.setAttribute("aria-pressed", String(on));
    const { station, name } = this.#item;
    const label = station && station !== name ? `${station} (${name})` : name;
    this.button.setAttribute("aria-label", `${on ? "Stop" : "Play"} ${label}`);
  }
}

function makeTitle(title) {
  const moment = new Date(title.started);
  const shown = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const node = el("li", {}, el("time", { class: "quiet", datetime: title.started }, shown),
    el("span", { dir: "auto" }, title.title));
  return { node, update() {} };
}
