// The loudness of a media element: a slider and a mute button, and the setting, which is kept for all of the page.

import { keep, recall } from "../storage.js";

function kept() {
  const { volume, muted } = recall("volume", {});
  return volume >= 0 && volume <= 1 ? { volume, muted: muted === true } : { volume: 1, muted: false };
}

/** Joins the two to the element; `show` is called with what is heard, {volume, muted}. */
export function joinVolume(media, slider, mute, show = () => {}) {
  const tell = () => {
    const now = { volume: media.volume, muted: media.muted };
    slider.value = String(now.volume);
    mute.setAttribute("aria-pressed", String(now.muted));
    show(now);
  };
  const choose = (volume, muted) => {
    Object.assign(media, { volume, muted });
    tell();
    // Not by "volumechange", which is lost when a station is stopped at once.
    keep("volume", { volume, muted });
  };
  slider.addEventListener("input", () => choose(slider.valueAsNumber, false));
  mute.addEventListener("click", () => choose(media.volume, !media.muted));
  media.addEventListener("volumechange", tell);
  Object.assign(media, kept());
  tell();
}
