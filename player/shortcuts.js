// The keys of the player, as video sites have them, and the list of them that "?" shows.

import { byId, el } from "./dom.js";

const SHORT_S = 5;
const LONG_S = 10;
const VOLUME_STEP = 0.05;
const RATES = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2];

const HELP = [
  ["Space, K", "Play or pause"],
  ["J, L", `Back or on by ${LONG_S} seconds`],
  ["←, →", `Back or on by ${SHORT_S} seconds`],
  ["0 … 9", "Go to that tenth of it"],
  ["Home, End", "Go to the beginning, or to the end or live"],
  ["↑, ↓", "Louder, quieter"],
  ["M", "Sound off or on"],
  ["F", "Full screen"],
  ["C", "Captions off or on"],
  ["<, >", "Slower, faster"],
  ["/", "Search the library"],
  ["?", "These keys"],
];

/** Where these keys are somebody else's: in fields, in lists of choices, and in the tabs. */
const OWN_KEYS = "input:not([type=radio]), select, textarea, [contenteditable]";
const ARROWS_OF_OTHERS = ".virtual, [type=radio], .messages, .typed";
const SPACE_OF_OTHERS = "button, summary, [type=radio], [role=button]";

export class Shortcuts {
  #playback;
  #onSearch;
  #dialog = makeDialog();

  /** @param onSearch puts the cursor into the field for searching */
  constructor(playback, onSearch) {
    this.#playback = playback;
    this.#onSearch = onSearch;
    document.body.append(this.#dialog);
    byId("keys").addEventListener("click", () => this.#help());
    // The browser's own controls take keys, too: they would act twice.
    document.addEventListener("keydown", (event) => this.#onKey(event), { capture: true });
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const { target } = event;
    if (this.#dialog.open || target.matches?.(OWN_KEYS) || target.closest?.("[role=tablist]")) return;
    if (event.key.startsWith("Arrow") && target.closest?.(ARROWS_OF_OTHERS)) return;
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
      " ": () => this.#toggle(), k: () => this.#toggle(),
      j: () => this.#seekBy(-LONG_S), l: () => this.#seekBy(LONG_S),
      ArrowLeft: () => this.#seekBy(-SHORT_S), ArrowRight: () => this.#seekBy(SHORT_S),
      ArrowUp: () => setVolume(video, VOLUME_STEP), ArrowDown: () => setVolume(video, -VOLUME_STEP),
      Home: () => this.#seekTo(0), End: () => this.#seekTo(1),
      m: () => { video.muted = !video.muted; },
      f: () => toggleFullScreen(video),
      c: () => this.#toggleCaptions(),
      "<": () => setRate(video, -1), ">": () => setRate(video, 1),
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

  #toggle() {
    if (this.#playback.video.paused) this.#playback.play();
    else this.#playback.video.pause();
  }

  #seekBy(seconds) {
    this.#playback.seekTo(this.#playback.video.currentTime + seconds);
  }

  #seekTo(share) {
    const [start, end] = this.#playback.seekable;
    this.#playback.seekTo(start + share * (end - start));
  }

  #toggleCaptions() {
    const { names, chosen } = this.#playback.captions;
    if (names.length) this.#playback.setCaptions(chosen < 0 ? 0 : -1);
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

function toggleFullScreen(video) {
  if (document.fullscreenElement) document.exitFullscreen();
  else (video.requestFullscreen?.() ?? Promise.reject()).catch(() => video.webkitEnterFullscreen?.());
}

function makeDialog() {
  const rows = HELP.map(([keys, text]) => el("div", {}, el("dt", {}, keys), el("dd", {}, text)));
  const dialog = el("dialog", { class: "help", "aria-labelledby": "help-title" },
    el("h2", { id: "help-title" }, "Keys"), el("dl", {}, ...rows),
    el("form", { method: "dialog" }, el("button", { type: "submit", class: "plain", autofocus: true }, "Close")));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  return dialog;
}
