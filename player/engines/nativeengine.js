// The browser's own player as an engine: a whole file with the text that the server has of it, or HLS where the
// browser knows that.

import { el } from "../dom.js";

const HLS = "application/vnd.apple.mpegurl";

export class NativeEngine {
  #video;
  #tracks;
  levels = [];
  level = null;
  chosenLevel = -1;
  isAutomatic = null;
  bandwidth = null;
  latency = null;
  targetLatency = null;
  date = null;
  seekable = null;
  /** Nothing has to come first: the browser may be told to play at once. */
  ready = null;

  static playsHls = () => document.createElement("video").canPlayType(HLS) !== "";

  constructor(video, { url, subtitles, text }, start, { changed }) {
    this.#video = video;
    video.audioTracks?.addEventListener("addtrack", () => changed("sounds"));
    video.src = start > 0 ? `${url}#t=${start}` : url;
    this.#tracks = (subtitles ?? []).map((one, index) => el("track", {
      kind: one.sdh ? "captions" : "subtitles", label: one.name, srclang: one.language ?? "", src: one.webvtt,
      default: text === undefined ? one.default : index === text,
    }));
    video.append(...this.#tracks);
  }

  setLevel() {}

  get captions() {
    const tracks = this.#tracks.map((element) => element.track);
    return {
      names: tracks.map((track) => track.label),
      languages: tracks.map((track) => track.language),
      chosen: tracks.findIndex((track) => track.mode === "showing"),
    };
  }

  setCaptions(index) {
    this.#tracks.forEach(({ track }, number) => { track.mode = number === index ? "showing" : "disabled"; });
  }

  /** Only Safari says which sound tracks a file has. */
  get sounds() {
    const tracks = Array.from(this.#video.audioTracks ?? []);
    return {
      names: tracks.map((track) => track.label || track.language),
      languages: tracks.map((track) => track.language),
      chosen: tracks.findIndex((track) => track.enabled),
    };
  }

  setSound(index) {
    Array.from(this.#video.audioTracks ?? []).forEach((track, number) => { track.enabled = number === index; });
  }

  destroy() {
    for (const element of this.#tracks) element.remove();
    this.#video.removeAttribute("src");
    this.#video.load();
  }
}
