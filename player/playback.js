// The one video element and what feeds it: a whole file, or hls.js. Mends itself when the server or the
// encoder goes away and comes back. Events: "change" (source or levels), "message" (detail: text or "").

import Hls from "./vendor/hls.min.mjs";
import { el } from "./dom.js";
import { Progress, Retry } from "./retry.js";

const CHECK_EVERY_MS = 500;
const LIVE_STUCK_MS = 8000;
const VOD_BUFFER_S = 30;
const BACK_BUFFER_S = 30;
const RELOADS_BEFORE_REBUILD = 4;
const MEDIA_ERROR_PAUSE_MS = 5000;
const CATCH_UP_RATE = 1.08;

export class Playback extends EventTarget {
  #retry = new Retry();
  #progress = new Progress();
  #troubled = false;
  #mediaErrorAt = -Infinity;
  #language = null;
  #elements = [];
  source = null;
  hls = null;
  recoveries = 0;

  constructor(video) {
    super();
    this.video = video;
    video.addEventListener("error", () => this.#onNativeError());
    video.addEventListener("playing", () => this.#message(""));
    video.textTracks.addEventListener("change", () => this.#changed());
    setInterval(() => this.#check(), CHECK_EVERY_MS);
  }

  /**
   * @param source {key, mode: "file"|"hls"|"live", url, start (s), buffer (s) or 0, level (index) or -1};
   *   of a film also thumbnails, of a whole file subtitles, as the library's list has them
   * @param play whether to begin by itself
   */
  open(source, play) {
    this.close();
    this.source = source;
    this.#load(source.start, play);
  }

  close() {
    this.#retry.reset();
    this.#message("");
    this.#unload();
    this.source = null;
    this.#changed();
  }

  play() {
    this.video.play().catch((error) => {
      if (error.name === "NotAllowedError") this.#message("Press play to start: the browser waits for your word.");
    });
  }

  /** Selects a level; -1 lets hls.js choose. */
  setLevel(index) {
    if (!this.hls) return;
    if (index < 0) this.hls.loadLevel = -1;
    else this.hls.nextLevel = index;
    this.#changed();
  }

  /** The names of the text tracks, and which of them is shown; -1 for none. */
  get captions() {
    if (this.hls) return { names: this.hls.subtitleTracks.map((track) => track.name), chosen: this.hls.subtitleTrack };
    const tracks = this.#elements.map((element) => element.track);
    return { names: tracks.map((track) => track.label), chosen: tracks.findIndex((track) => track.mode === "showing") };
  }

  /** Selects a text track; -1 for none. The language is kept for the next item. */
  setCaptions(index) {
    if (this.hls) {
      this.#language = this.hls.subtitleTracks[index]?.lang ?? null;
      this.hls.subtitleTrack = index;
    } else {
      this.#language = this.#elements[index]?.srclang ?? null;
      this.#elements.forEach(({ track }, number) => { track.mode = number === index ? "showing" : "disabled"; });
    }
    this.#changed();
  }

  /** Where one can seek to, [start, end] in seconds: of a channel what it keeps, up to where viewers of it are. */
  get seekable() {
    const { video, hls, source } = this;
    if (source?.mode === "live" && hls) {
      const details = hls.latestLevelDetails;
      if (!details?.fragments.length) return [0, 0];
      const end = hls.liveSyncPosition ?? details.edge;
      // What leaves the playlist while it is loaded can't be played, and hls.js would go to the live edge.
      return [Math.min(details.fragments[0].start + 2 * details.targetduration, end), end];
    }
    const { seekable } = video;
    return seekable.length ? [seekable.start(0), seekable.end(seekable.length - 1)] : [0, 0];
  }

  /** The time of day of a position, as the channel says it; null where it doesn't. */
  dateAt(position) {
    const playing = this.hls?.playingDate;
    return playing ? new Date(playing.getTime() + (position - this.video.currentTime) * 1000) : null;
  }

  /** Goes to a position within what can be sought to. */
  seekTo(position) {
    const [start, end] = this.seekable;
    if (this.source?.mode === "live" && position >= end) this.goToEdge();
    else if (end > start) this.video.currentTime = Math.min(Math.max(position, start), end);
  }

  goToEdge() {
    const edge = this.hls?.liveSyncPosition;
    if (edge) this.video.currentTime = edge;
    this.play();
  }

  /** Gives a whole file the text that the server has of it. */
  #addTracks() {
    this.#elements = (this.source.subtitles ?? []).map((one) => el("track", {
      kind: one.sdh ? "captions" : "subtitles", label: one.name, srclang: one.language ?? "", src: one.webvtt,
      default: one.default,
    }));
    this.video.append(...this.#elements);
  }

  #unload() {
    this.hls?.destroy();
    this.hls = null;
    for (const element of this.#elements) element.remove();
    this.#elements = [];
    if (this.video.hasAttribute("src")) {
      this.video.removeAttribute("src");
      this.video.load();
    }
  }

  #load(start, play) {
    const { mode, url } = this.source;
    this.#unload();
    // Asked before the element: Chromium answers "maybe" to m3u8 and then plays it without our levels and latency.
    if (mode !== "file" && Hls.isSupported()) {
      this.#loadHls(start);
    } else if (mode === "file") {
      this.video.src = start > 0 ? `${url}#t=${start}` : url;
      this.#addTracks();
    } else if (this.video.canPlayType("application/vnd.apple.mpegurl")) {
      this.video.src = start > 0 ? `${url}#t=${start}` : url;
    } else {
      this.#message("This browser can't play adaptive streams. Choose “Whole file”, or use a newer browser.");
      return;
    }
    if (play) this.play();
    this.#changed();
  }

  #loadHls(start) {
    const { mode, url, buffer, level } = this.source;
    const live = mode === "live";
    const hls = new Hls({
      lowLatencyMode: live,
      maxLiveSyncPlaybackRate: live ? CATCH_UP_RATE : 1,
      backBufferLength: BACK_BUFFER_S,
      maxBufferLength: buffer || VOD_BUFFER_S,
      maxMaxBufferLength: buffer || VOD_BUFFER_S * 2,
      startPosition: live || !start ? -1 : start,
      startLevel: level >= 0 ? level : undefined,
      enableWorker: false, // fragmented MP4 passes through; there is nothing to transmux in a worker
    });
    hls.on(Hls.Events.MANIFEST_PARSED, () => this.#changed());
    hls.on(Hls.Events.LEVELS_UPDATED, () => this.#changed());
    hls.on(Hls.Events.LEVEL_SWITCHED, () => this.#changed());
    hls.on(Hls.Events.SUBTITLE_TRACKS_UPDATED, () => this.#recallCaptions(hls));
    hls.on(Hls.Events.SUBTITLE_TRACK_SWITCH, () => this.#changed());
    hls.on(Hls.Events.ERROR, (_, data) => data.fatal && this.#onHlsError(hls, data));
    hls.loadSource(url);
    hls.attachMedia(this.video);
    this.hls = hls;
  }

  #recallCaptions(hls) {
    const index = hls.subtitleTracks.findIndex((track) => track.lang === this.#language);
    if (index >= 0) hls.subtitleTrack = index;
    this.#changed();
  }

  #onHlsError(hls, data) {
    if (hls !== this.hls) return;
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR && performance.now() - this.#mediaErrorAt > MEDIA_ERROR_PAUSE_MS) {
      this.#mediaErrorAt = performance.now();
      this.recoveries += 1;
      hls.recoverMediaError();
      return;
    }
    const gone = data.response?.code === 404;
    const text = gone
      ? "The server has nothing at this address at the moment."
      : data.type === Hls.ErrorTypes.NETWORK_ERROR
        ? "The connection to the server was lost."
        : "Playback was interrupted.";
    this.#again(text, () => {
      // Resume loading first, while the buffer plays on; rebuild the player only if that fails.
      const known = hls.levels.length > 0 && data.type === Hls.ErrorTypes.NETWORK_ERROR;
      if (known && this.#retry.attempts <= RELOADS_BEFORE_REBUILD) hls.startLoad();
      else this.#rebuild();
    });
  }

  async #onNativeError() {
    const source = this.source;
    if (!source || this.hls || !this.video.error) return;
    const answer = await fetch(source.url, { method: "HEAD" }).catch(() => null);
    if (source !== this.source || this.hls) return;
    if (answer?.status === 404) {
      this.#message("This file isn't in the library any more. Choose another one.");
    } else if (answer?.ok && this.video.error?.code !== MediaError.MEDIA_ERR_NETWORK) {
      this.#message("This browser can't play this file. Try “Adaptive”, or download the file and use another player.");
    } else {
      this.#again("The connection to the server was lost.", () => this.#rebuild());
    }
  }

  #again(text, action) {
    const willTry = this.#retry.later(() => {
      this.recoveries += 1;
      action();
    });
    this.#troubled = willTry;
    this.#message(willTry ? `${text} Trying again …` : `${text} Reload the page to try once more.`);
  }

  async #rebuild() {
    const { source } = this;
    // Keep the last picture until there is a new one.
    const answer = await fetch(source.url, { method: "HEAD" }).catch(() => null);
    if (source !== this.source) return;
    if (!answer?.ok) {
      this.#again("The server doesn't answer.", () => this.#rebuild());
      return;
    }
    const playing = !this.video.paused || this.source.mode === "live";
    this.#load(this.source.mode === "live" ? 0 : this.video.currentTime || this.source.start, playing);
  }

  #check() {
    if (!this.source) return;
    this.#progress.check(this.video, LIVE_STUCK_MS, {
      moved: () => {
        if (!this.#troubled || this.#retry.pending) return;
        this.#troubled = false;
        this.#retry.reset();
        this.#message("");
      },
      stuck: () => {
        if (this.source.mode === "live") this.#again("The channel stopped.", () => this.#rebuild());
      },
    });
  }

  #message(text) {
    this.dispatchEvent(new CustomEvent("message", { detail: text }));
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
