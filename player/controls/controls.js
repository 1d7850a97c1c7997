// The controls under the picture, which lie over it in full screen: play, sound, time, live, captions, picture in
// picture, casting, full screen. The seek bar and the settings are modules of their own.

import { byId, clock, say } from "../dom.js";
import { offerCasting } from "./casting.js";
import { read } from "../instruments/stats.js";
import { joinVolume } from "./volume.js";

const REFRESH_MS = 500;
const EDGE_TOLERANCE_S = 1.5;
/** Seconds of latency below which its tenths are of interest. */
const PRECISE_BELOW_S = 10;
/** A picture that stands for a shorter time isn't worth a word. */
const WAITING_AFTER_MS = 700;
const STILL_AFTER_MS = 3000;

export class Controls {
  #playback;
  #screen = byId("screen");
  #waiting = 0;
  #still = 0;

  constructor(playback) {
    this.#playback = playback;
    const { video } = playback;
    byId("play").addEventListener("click", () => this.togglePlay());
    byId("captions-toggle").addEventListener("click", () => this.toggleCaptions());
    byId("edge").addEventListener("click", () => playback.goToEdge());
    byId("fullscreen").addEventListener("click", () => this.toggleFullScreen());
    byId("pip").addEventListener("click", () => this.togglePictureInPicture());
    byId("pip").hidden = !document.pictureInPictureEnabled;
    joinVolume(video, byId("sound"), byId("sound-off"), ({ volume, muted }) => {
      icon("sound-off", muted || volume === 0 ? "silent" : "sound");
    });
    offerCasting(video, byId("cast"));
    for (const event of ["play", "pause", "ended", "emptied"]) video.addEventListener(event, () => this.#showPlaying());
    for (const event of ["timeupdate", "durationchange", "emptied"]) video.addEventListener(event, () => this.#showTime());
    for (const event of ["waiting", "seeking"]) video.addEventListener(event, () => this.#wait());
    for (const event of ["playing", "canplay", "seeked", "emptied", "error"]) video.addEventListener(event, () => this.#waitNoMore());
    for (const event of ["enterpictureinpicture", "leavepictureinpicture"]) {
      video.addEventListener(event, () => press("pip", document.pictureInPictureElement === video));
    }
    this.#listenToThePicture(video);
    document.addEventListener("fullscreenchange", () => this.#showFullScreen());
    for (const event of ["pointermove", "pointerdown", "keydown", "focusin"]) this.#screen.addEventListener(event, () => this.#stir());
    playback.addEventListener("change", () => this.#showChoices());
    setInterval(() => this.#showEdge(), REFRESH_MS);
    this.#showChoices();
  }

  togglePlay() {
    if (this.#playback.video.paused) this.#playback.play();
    else this.#playback.video.pause();
  }

  toggleCaptions() {
    const { names, chosen } = this.#playback.captions;
    if (names.length) this.#playback.setCaptions(chosen < 0 ? 0 : -1);
  }

  /** The picture with its controls; phones that can't do that take the picture alone. */
  toggleFullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else (this.#screen.requestFullscreen?.() ?? Promise.reject()).catch(() => this.#playback.video.webkitEnterFullscreen?.());
  }

  togglePictureInPicture() {
    const { video } = this.#playback;
    if (document.pictureInPictureElement) document.exitPictureInPicture();
    // Refused while there is no picture.
    else video.requestPictureInPicture?.().catch(() => {});
  }

  /** A click on the picture plays or pauses; in full screen a finger brings the controls first. */
  #listenToThePicture(video) {
    let wasStill = false;
    video.addEventListener("pointerdown", () => { wasStill = this.#screen.classList.contains("still"); }, { capture: true });
    video.addEventListener("click", (event) => {
      if (!this.#playback.source || (wasStill && event.pointerType === "touch")) return;
      this.togglePlay();
    });
    video.addEventListener("dblclick", () => this.toggleFullScreen());
  }

  #showPlaying() {
    const { paused } = this.#playback.video;
    icon("play", paused ? "play" : "pause");
    name("play", paused ? "Play" : "Pause", "K");
    this.#stir();
  }

  #showTime() {
    const { video, source, hasEdge, offAir } = this.#playback;
    byId("time").hidden = !source || hasEdge || offAir !== "";
    if (byId("time").hidden) return;
    // Of an event that is over, what is kept of it: its media may begin at any time.
    const [start, end] = source.isLive ? this.#playback.seekable : [0, video.duration];
    // Not known before the file's head is, nor of what has no end.
    const length = clock(end - start);
    const position = clock(Math.max(video.currentTime - start, 0));
    say(byId("time"), length ? `${position} / ${length}` : position);
  }

  #showChoices() {
    const { source, captions } = this.#playback;
    byId("captions-toggle").hidden = captions.names.length === 0;
    press("captions-toggle", captions.chosen >= 0);
    for (const id of ["play", "pip", "fullscreen"]) byId(id).disabled = !source;
    this.#showTime();
    this.#showEdge();
  }

  #showEdge() {
    byId("edge").hidden = !this.#playback.hasEdge || this.#playback.offAir !== "";
    if (document.hidden || byId("stage").hidden || byId("edge").hidden) return;
    const { latency, targetLatency, paused } = read(this.#playback);
    const isBehind = latency !== null && latency > (targetLatency ?? 0) + EDGE_TOLERANCE_S;
    const isKnown = (this.#playback.engine?.latency ?? null) !== null;
    const isAway = this.#playback.isTroubled || document.body.classList.contains("server-away");
    byId("edge").classList.toggle("at-edge", isKnown && !isBehind && !paused && !isAway);
    const seconds = latency === null || isAway ? "" : `, ${latency.toFixed(latency < PRECISE_BELOW_S ? 1 : 0)} s`;
    say(byId("edge"), isBehind || paused ? `Go to live${seconds && `${seconds} ahead`}` : `Live${seconds}`);
  }

  #wait() {
    clearTimeout(this.#waiting);
    this.#waiting = setTimeout(() => { byId("waiting").hidden = !this.#playback.source; }, WAITING_AFTER_MS);
  }

  #waitNoMore() {
    clearTimeout(this.#waiting);
    byId("waiting").hidden = true;
  }

  #showFullScreen() {
    const isFull = document.fullscreenElement === this.#screen;
    icon("fullscreen", isFull ? "smaller" : "larger");
    name("fullscreen", isFull ? "Leave full screen" : "Full screen", "F");
    this.#stir();
  }

  /** Shows the controls and the pointer; in full screen they go when nothing is touched for a while. */
  #stir() {
    clearTimeout(this.#still);
    this.#screen.classList.remove("still");
    if (document.fullscreenElement !== this.#screen) return;
    this.#still = setTimeout(() => {
      const isBusy = this.#playback.video.paused || this.#screen.querySelector(":popover-open, #deck :focus-visible");
      this.#screen.classList.toggle("still", !isBusy);
    }, STILL_AFTER_MS);
  }
}

function icon(id, symbol) {
  byId(id).querySelector("use").setAttribute("href", `#icon-${symbol}`);
}

function name(id, text, key) {
  byId(id).setAttribute("aria-label", text);
  byId(id).title = `${text} (${key})`;
}

function press(id, isOn) {
  byId(id).setAttribute("aria-pressed", String(isOn));
}
