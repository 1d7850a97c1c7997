// The menu of settings: sound track, captions, quality, speed, and which engine plays in which way.

import { byId, el, say } from "../dom.js";
import { MODES } from "../engines/playmodes.js";
import { levelName } from "../instruments/stats.js";

export const RATES = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2];
const GAP_PX = 8;

export class Settings {
  #playback;
  #stage;
  #menu = byId("settings");
  #button = byId("settings-button");

  constructor(playback, stage) {
    this.#playback = playback;
    this.#stage = stage;
    const { video } = playback;
    byId("audio").addEventListener("change", (event) => playback.setSound(Number(event.target.value)));
    byId("captions").addEventListener("change", (event) => playback.setCaptions(Number(event.target.value)));
    byId("quality").addEventListener("change", (event) => playback.setLevel(Number(event.target.value)));
    byId("rate").addEventListener("change", (event) => { video.playbackRate = Number(event.target.value); });
    byId("engine").addEventListener("change", (event) => stage.onMode(event.target.value));
    offer(byId("rate"), RATES.map((rate) => [rate, `${rate} ×`]), 1);
    this.#menu.addEventListener("beforetoggle", ({ newState }) => newState === "open" && this.#place());
    this.#menu.addEventListener("toggle", ({ newState }) => {
      this.#button.setAttribute("aria-expanded", String(newState === "open"));
      if (newState !== "open") return;
      const beyond = GAP_PX - this.#menu.getBoundingClientRect().top;
      if (beyond > 0) this.#menu.style.setProperty("--bottom", `${innerHeight - this.#menu.offsetHeight - GAP_PX}px`);
      this.#menu.querySelector("label:not([hidden]) select").focus({ preventScroll: true });
    });
    // The panel stays where it was opened, which the button doesn't.
    addEventListener("resize", () => this.#menu.hidePopover());
    document.addEventListener("scroll", () => this.#menu.hidePopover());
    video.addEventListener("ratechange", () => this.#showRate());
    playback.addEventListener("change", () => this.#show());
    this.#show();
  }

  #place() {
    const box = this.#button.getBoundingClientRect();
    this.#menu.style.setProperty("--right", `${Math.max(document.documentElement.clientWidth - box.right, GAP_PX)}px`);
    this.#menu.style.setProperty("--bottom", `${innerHeight - box.top + GAP_PX}px`);
  }

  #show() {
    const { engine, source, captions, sounds } = this.#playback;
    this.#button.disabled = !source;
    const levels = engine?.levels ?? [];
    byId("quality-box").hidden = levels.length < 2;
    const names = levels.map(levelName);
    const playing = engine?.isAutomatic && names[engine.level];
    const labels = [playing ? `Automatic (${playing})` : "Automatic", ...names];
    offer(byId("quality"), labels.map((label, index) => [index - 1, label]), engine?.chosenLevel ?? -1);
    byId("audio-box").hidden = sounds.names.length < 2;
    offer(byId("audio"), labelsOf(sounds).map((label, index) => [index, label]), sounds.chosen);
    byId("captions-box").hidden = captions.names.length === 0;
    offer(byId("captions"), ["Off", ...captions.names].map((label, index) => [index - 1, label]), captions.chosen);
    // Live has one speed, which the engine changes by itself to keep its distance.
    byId("rate-box").hidden = source?.isLive ?? false;
    offer(byId("engine"), this.#stage.modes.map((mode) => [mode, MODES[mode]]), source?.mode);
    this.#showRate();
  }

  #showRate() {
    byId("rate").value = String(this.#playback.video.playbackRate);
  }
}

/** The names of sound tracks, each with its language where the name doesn't say that. */
function labelsOf({ names, languages }) {
  return names.map((name, index) => {
    const language = languageName(languages[index]);
    if (!name || !language) return name || language || `Track ${index + 1}`;
    return name.toLowerCase().includes(language.toLowerCase()) ? name : `${language}: ${name}`;
  });
}

/** The name of a language in itself; "" where there is none or it isn't known. */
function languageName(tag) {
  try {
    return new Intl.DisplayNames([tag], { type: "language", fallback: "none" }).of(tag) ?? "";
  } catch {
    // No tag, or a malformed one.
    return "";
  }
}

/** Fills a select with [value, label]s, and touches only what has changed: it may be open. */
function offer(select, choices, chosen) {
  while (select.options.length > choices.length) select.remove(select.options.length - 1);
  while (select.options.length < choices.length) select.append(el("option", {}));
  choices.forEach(([value, label], index) => {
    const option = select.options[index];
    if (option.value !== String(value)) option.value = String(value);
    say(option, label);
  });
  if (select.value !== String(chosen)) select.value = String(chosen);
}
