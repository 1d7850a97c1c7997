// The text around the picture: title, facts, how it is played, download, and the words where there is no picture.

import { byId, el, say } from "../dom.js";
import { Chapters } from "./chapters.js";
import { Preparation } from "./preparation.js";
import { Sharing } from "./sharing.js";

const REFRESH_MS = 500;

/** What the word means that says how an item is played. */
const WAYS = {
  file: "The file as it is",
  segments: "Segments of what the file has, without encoding",
  encoded: "Encoded while it is watched: the browser can't play what the file has, or subtitles are in the picture",
};

export class Stage {
  /** Called with the mode that was chosen. */
  onMode = () => {};
  /** The modes that the item offers. */
  modes = [];
  /** Whether the film is encoded ahead of time. */
  preparation = new Preparation();
  sharing = new Sharing();
  #message = "";
  /** Why what was chosen can't be played; "" where nothing was chosen. */
  #refused = "";

  constructor(playback) {
    this.playback = playback;
    this.chapters = new Chapters(playback.video);
    byId("modes").addEventListener("change", (event) => this.onMode(event.target.value));
    byId("clock").addEventListener("change", (event) => this.#goToTime(event.target.value));
    playback.addEventListener("message", (event) => this.#say(event.detail));
    playback.addEventListener("change", () => this.#showIdle());
    setInterval(() => this.#refresh(), REFRESH_MS);
  }

  /**
   * @param modes which ways to play it the item offers; way one of WAYS, "" where it isn't said; shared the address
   * that can be given away, and file that of the file itself
   */
  present({ title, facts, way = "", source, modes, shared = "", file = "" }, play) {
    this.#refused = "";
    this.modes = modes;
    this.#showWay(way);
    this.#showCover(source.about?.cover);
    say(byId("title"), title);
    say(byId("facts"), facts);
    byId("facts").classList.toggle("state", source.isLive);
    byId("modes").hidden = !modes.includes("file") || modes.length < 2;
    for (const input of byId("modes").querySelectorAll("input")) input.checked = (input.value === "file") === (source.mode === "file");
    this.offerFile(null);
    if (source.isLive) this.preparation.show("");
    this.sharing.show(shared, file);
    this.chapters.show(source.chapters ?? null);
    this.playback.open(source, play);
  }

  /** Offers a file for download; and to play it anyway, at another address, where the browser says that it can't. */
  offerFile(address, anyway = null) {
    for (const [id, href] of [["download", address], ["anyway", anyway]]) {
      byId(id).hidden = !href;
      if (href) byId(id).href = href;
    }
  }

  /** Scrolls the page so far that the picture is seen, where it isn't. */
  bringIntoView() {
    const { top, bottom } = this.playback.video.getBoundingClientRect();
    if (top >= 0 && bottom <= innerHeight) return;
    const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
    byId("stage").scrollIntoView({ block: "start", behavior });
  }

  #say(text) {
    this.#message = text;
    this.#showOffAir();
  }

  /** Says over the picture why there is none. What the player itself says of that isn't said beside it. */
  #showOffAir() {
    const { offAir } = this.playback;
    byId("off-air").hidden = !offAir;
    if (offAir) say(byId("off-air"), offAir);
    say(byId("status"), offAir ? "" : this.#message);
  }

  clear(text) {
    this.#empty("Nothing chosen", text);
  }

  /** Shows an item that can't be played: what it is, why, and what can be done. */
  refuse({ title, facts, reason, advice }) {
    const sentence = `${title} can't be played here: ${reason}.`;
    this.#empty(title, facts, sentence);
    this.#say(`${sentence} ${advice}`);
  }

  #showCover(address = null) {
    byId("cover")?.remove();
    if (address) byId("idle").before(el("img", { id: "cover", class: "cover", alt: "", src: address, error: () => this.#showCover() }));
  }

  #showWay(way) {
    byId("way").hidden = !way;
    say(byId("way"), way);
    byId("way").title = WAYS[way] ?? "";
  }

  #showIdle() {
    this.#showOffAir();
    byId("idle").hidden = this.playback.source !== null;
    say(byId("idle"), this.#refused || "Choose something to play.");
  }

  #empty(title, facts, refused = "") {
    this.modes = [];
    this.#refused = refused;
    this.#showWay("");
    this.#showCover();
    this.playback.close();
    say(byId("title"), title);
    say(byId("facts"), facts);
    byId("modes").hidden = true;
    byId("clock-box").hidden = true;
    this.offerFile(null);
    this.preparation.show("");
    this.sharing.show("", "");
    byId("anew").hidden = true;
    this.chapters.show(null);
  }

  /** Goes to a time of day: the last one that was, within what the channel keeps. */
  #goToTime(text) {
    const { video } = this.playback;
    const now = this.playback.dateAt(video.currentTime);
    if (!text || !now) return;
    const [hours, minutes, seconds = 0] = text.split(":").map(Number);
    const wanted = new Date();
    wanted.setHours(hours, minutes, seconds, 0);
    if (wanted > new Date()) wanted.setDate(wanted.getDate() - 1);
    this.playback.seekTo(video.currentTime + (wanted - now) / 1000);
  }

  #refresh() {
    if (document.hidden || byId("stage").hidden) return;
    this.#showOffAir();
    byId("clock-box").hidden = !this.playback.source?.isLive || !this.playback.dateAt(0);
  }
}
