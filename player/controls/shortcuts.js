// The keys of the player, as video sites have them, and the list of them that "?" shows.

import { byId, el } from "../dom.js";
import { RATES } from "./settings.js";

const SHORT_S = 5;
const LONG_S = 10;
const VOLUME_STEP = 0.05;
/** Frames a second of what doesn't say how many it has. */
const FRAME_RATE = 25;

const HELP = [
  ["Space, K", "Play or pause"],
  ["J, L", `Back or on by ${LONG_S} seconds`],
  ["←, →", `Back or on by ${SHORT_S} seconds`],
  ["0 … 9", "Go to that tenth of it"],
  ["Home, End", "Go to the beginning, or to the end or live"],
  ["↑, ↓", "Louder, quieter"],
  ["M", "Sound off or on"],
  ["F", "Full screen"],
  ["I", "Picture in picture"],
  ["C", "Captions off or on"],
  ["<, >", "Slower, faster"],
  [", .", "A frame back or on, while it stands"],
  ["/", "Search the library"],
  ["?", "These keys"],
];

/** Where these keys are somebody else's: in fields, in lists of choices, and in the tabs. */
const OWN_KEYS = "input:not([type=radio], [type=range]), select, textarea, [contenteditable]";
const ARROWS_OF_OTHERS = ".virtual, [type=radio], .volume input, .day, .messages, .typed, .talk, .requests, .result";
const SPACE_OF_OTHERS = "button, summary, [type=radio], [role=button]";

export class Shortcuts {
  #playback;
  #controls;
  #onSearch;
  #dialog = makeDialog();

  /** @param onSearch puts the cursor into the field for searching */
  constructor(playback, controls, onSearch) {
    this.#playback = playback;
    this.#controls = controls;
    this.#onSearch = onSearch;
    document.body.append(this.#dialog);
    byId("keys").addEventListener("click", () => this.#help());
    // Sliders take keys, too: they would act twice.
    document.addEventListener("keydown", (event) => this.#onKey(event), { capture: true });
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const { target } = event;
    if (this.#dialog.open || target.matches?.(OWN_KEYS) || target.closest?.("[role=tablist]")) return;
    if (/^(Arrow|Home|End)/.test(event.key) && target.closest?.(ARROWS_OF_OTHERS)) return;
    if (event.key === " " && target.closest?.(SPACE_OF_OTHERS)) return;
    if (!this.#act(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Does what a key is for. Gives whether there is anything. */
  #act(key) {
    if (key === "?") return this.#help();
    if (key === "/") return this.#onSearch();
    if (byId("stage").hidden || !this.#playback.source) return false;
    const { video } = this.#playback;
    const actions = {
      " ": () => this.#controls.togglePlay(), k: () => this.#controls.togglePlay(),
      j: () => this.#seekBy(-LONG_S), l: () => this.#seekBy(LONG_S),
      ArrowLeft: () => this.#seekBy(-SHORT_S), ArrowRight: () => this.#seekBy(SHORT_S),
      ArrowUp: () => setVolume(video, VOLUME_STEP), ArrowDown: () => setVolume(video, -VOLUME_STEP),
      Home: () => this.#seekTo(0), End: () => this.#seekTo(1),
      m: () => { video.muted = !video.muted; },
      f: () => this.#controls.toggleFullScreen(),
      i: () => this.#controls.togglePictureInPicture(),
      c: () => this.#controls.toggleCaptions(),
      "<": () => setRate(video, -1), ">": () => setRate(video, 1),
      ",": () => this.#step(-1), ".": () => this.#step(1),
    };
    const action = /^[0-9]$/.test(key) ? () => this.#seekTo(Number(key) / 10)
      : actions[key.length === 1 ? key.toLowerCase() : key];
    action?.();
    return Boolean(action);
  }

  #help() {
    this.#dialog.showModal();
    return true;
  }

  #seekBy(seconds) {
    this.#playback.seekTo(this.#playback.video.currentTime + seconds);
  }

  #seekTo(share) {
    const [start, end] = this.#playback.seekable;
    this.#playback.seekTo(start + share * (end - start));
  }

  #step(frames) {
    const { video, source } = this.#playback;
    if (video.paused) this.#seekBy(frames / (source.frameRate || FRAME_RATE));
  }
}

function setVolume(video, step) {
  video.volume = Math.min(Math.max(video.volume + step, 0), 1);
  if (step > 0) video.muted = false;
}

function setRate(video, step) {
  const now = RATES.findIndex((rate) => rate >= video.playbackRate);
  video.playbackRate = RATES[Math.min(Math.max(now + step, 0), RATES.length - 1)];
}

function makeDialog() {
  const rows = HELP.map(([keys, text]) => el("div", {}, el("dt", {}, keys), el("dd", {}, text)));
  const dialog = el("dialog", { class: "help", "aria-labelledby": "help-title" },
    el("h2", { id: "help-title" }, "Keys"), el("dl", {}, ...rows),
    el("form", { method: "dialog" }, el("button", { type: "submit", class: "plain", autofocus: true }, "Close")));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  return dialog;
}
