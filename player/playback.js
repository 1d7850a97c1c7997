// The one video element and the engine that feeds it. Mends itself when the server or the encoder goes away and
// comes back. Events: "change" (source, levels or captions), "message" (detail: text or "").

import { keep, recall } from "./storage.js";
import { HlsEngine } from "./engines/hlsengine.js";
import { joinCaptions } from "./engines/decision.js";
import { NativeEngine } from "./engines/nativeengine.js";
import { lookAgain, lookAt, refusalOf, sentence } from "./refusal.js";
import { Progress, Retry } from "./retry.js";
import { ShakaEngine } from "./engines/shakaengine.js";

const CHECK_EVERY_MS = 500;
const LIVE_STUCK_MS = 8000;
/** How long a channel that is back has until it moves: what plays it may wait for something that never comes. */
const BACK_STUCK_MS = 3000;
const RELOADS_BEFORE_REBUILD = 4;
const MEDIA_ERROR_PAUSE_MS = 5000;
/** Nearer to the end of what can be sought to than this a viewer is live. */
const AT_LIVE_S = 3;
/** Further ahead of that end no viewer is, unless what was shown is of another time than what is to come. */
const AHEAD_OF_EDGE_S = 4;

/** Time of playing after which a picture and a sound must have been decoded. */
const DECODED_AFTER_S = 3;

const NO_TRACKS = { names: [], languages: [], chosen: -1 };

/** The engine of each mode; "hls" is the browser's own affair where it has no Media Source Extensions. */
const ENGINES = { file: NativeEngine, native: NativeEngine, hls: HlsEngine, dash: ShakaEngine };

/**
 * The members of an engine, beside a constructor of (video, source, start, {changed, failed}) and `destroy()`;
 * `changed` is called with "captions" or "sounds" where those have become known:
 * @typedef {object} Engine
 * @property {Promise|null} ready fulfilled when the browser may be told to play; null: at once
 * @property {{height: number, bitrate: number}[]} levels the smallest first
 * @property {number|null} level the index of what plays; null where only the browser knows
 * @property {boolean|null} isAutomatic whether the engine chooses the level
 * @property {number} chosenLevel the index of what was chosen by hand; -1 for none
 * @property {(index: number) => void} setLevel -1 lets the engine choose
 * @property {{names: string[], languages: string[], chosen: number}} captions the text tracks; chosen is -1 for none
 * @property {(index: number) => void} setCaptions
 * @property {{names: string[], languages: string[], chosen: number}} sounds the sound tracks, as far as they can be chosen
 * @property {(index: number) => void} setSound
 * @property {number|null} bandwidth estimated, in bit/s
 * @property {number|null} latency behind live, in seconds
 * @property {number|null} targetLatency what it keeps to, in seconds
 * @property {Date|null} date the time of day of what is shown, as the channel says it
 * @property {number[]|null} seekable [start, end] in seconds; null where the element knows
 * @property {((isFollowing: boolean) => void)|undefined} follow whether a channel's viewer who falls behind is brought to live
 * @property {(() => boolean)|undefined} recover decodes on after an error of the media
 * @property {(() => boolean)|undefined} resume loads on after an error of the network; false where that can't be tried
 */

export class Playback extends EventTarget {
  #retry = new Retry();
  #progress = new Progress();
  #troubled = false;
  #mediaErrorAt = -Infinity;
  /** What was chosen last: {sounds, captions}, each {language, name} or null. */
  #chosen = recall("tracks", {});
  #wantedDate = null;
  #leaving = null;
  #missing = "";
  /** The state of the channel that plays, as the list has it; "" of anything else. */
  #channelState = "";
  #offAir = "";
  /** Whether what is loaded of the channel ends: the playlists of its next event are others. */
  #isOver = false;
  source = null;
  /** Called with the number of the subtitles that are wanted in the picture instead of those that are; 0 for none. */
  onBurn = () => {};
  /** @type {Engine|null} */
  engine = null;
  recoveries = 0;

  constructor(video) {
    super();
    this.video = video;
    video.addEventListener("error", () => this.#onNativeError());
    video.addEventListener("playing", () => this.#message(this.#missing));
    video.addEventListener("play", () => this.#follow(video.currentTime));
    video.addEventListener("pause", () => this.engine?.follow?.(false));
    video.addEventListener("timeupdate", () => this.#stopAtEnd());
    video.textTracks.addEventListener("change", () => this.#changed());
    setInterval(() => this.#check(), CHECK_EVERY_MS);
  }

  /**
   * @param source {key, mode: "file"|"hls"|"dash"|"native", isLive, url, start (s), end (s) of a clip or 0, buffer (s) or 0, level (index) or -1};
   *   of a channel also date, from where it goes on or null, and, as of its spans, past, the channel of the list, which has pictures; of a film thumbnails, of a whole file subtitles, as the
   *   library's list has them, burnable: those that can be in the picture, burned: the number of those that are, 0 for none,
   *   text: the index of the text track that is shown, -1 for none, undefined for the last language, tracks {picture, sound}: the names of their codecs, "" without one, and plays {file, hls}:
   *   in which ways the browser says that it plays it
   * @param play whether to begin by itself
   */
  open(source, play) {
    this.close();
    this.source = source;
    this.#wantedDate = source.date ?? null;
    this.#load(source.start, play);
  }

  close() {
    this.#retry.reset();
    this.#progress.reset();
    this.#missing = "";
    this.#channelState = this.#offAir = "";
    this.#isOver = false;
    this.#message("");
    this.#unload();
    this.source = null;
    this.#changed();
  }

  /**
   * Takes what the list says of the channel that plays: a channel that is back is played at once.
   * @param state of the list; "" where no channel plays
   * @param offAir a sentence that says why there is no picture; "" where there should be one
   */
  setChannel(state, offAir) {
    const before = this.#channelState;
    this.#channelState = state;
    this.#offAir = offAir;
    if (state === before) return;
    if (state === "ended") this.#isOver = true;
    if (state === "live" && before) {
      this.#progress.expect(BACK_STUCK_MS);
      this.#retry.now();
    }
    this.#changed();
  }

  /** Whether playback was interrupted, and is tried again. */
  get isTroubled() {
    return this.#troubled;
  }

  /** Why the channel has no picture, in a sentence, for as long as nothing is left to be shown; else "". */
  get offAir() {
    const hasPicture = this.video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA && !this.video.ended;
    return this.source?.isLive && !hasPicture ? this.#offAir : "";
  }

  /** Whether a channel plays that has a live edge: that of an event which is over is its end. */
  get hasEdge() {
    return Boolean(this.source?.isLive) && this.#channelState !== "ended";
  }

  play() {
    this.video.play().catch((error) => {
      if (error.name === "NotAllowedError") this.#message("Press play to start: the browser waits for your word.");
    });
  }

  /** Selects a level; -1 lets the engine choose. */
  setLevel(index) {
    this.engine?.setLevel(index);
    this.#changed();
  }

  /** The names of the text tracks and of subtitles in the picture, and which of all is shown; -1 for none. */
  get captions() {
    return joinCaptions(this.#texts, this.source?.burnable ?? [], this.source?.burned);
  }

  /** Selects a text track, or subtitles in the picture; -1 for none. The language is kept for the text of the next item. */
  setCaptions(index) {
    const { burnable = [], burned = 0 } = this.source;
    const { number = 0 } = burnable[index - this.#texts.names.length] ?? {};
    this.#remember("captions", index);
    this.source.text = number ? -1 : index;
    if (number !== burned) this.onBurn(number);
    else this.engine?.setCaptions(this.source.text);
    this.#changed();
  }

  get #texts() {
    return this.engine?.captions ?? NO_TRACKS;
  }

  /** The names of the sound tracks that can be chosen, and which of them plays. */
  get sounds() {
    return this.engine?.sounds ?? NO_TRACKS;
  }

  /** Selects a sound track. The language is kept for the next item. */
  setSound(index) {
    this.#remember("sounds", index);
    this.engine?.setSound(index);
    this.#changed();
  }

  /** Where one can seek to, [start, end] in seconds: of a channel what it keeps, up to where viewers of it are. */
  get seekable() {
    const { seekable } = this.video;
    return this.engine?.seekable ?? (seekable.length ? [seekable.start(0), seekable.end(seekable.length - 1)] : [0, 0]);
  }

  /** The time of day of a position, as the channel says it; null where it doesn't. */
  dateAt(position) {
    const date = this.engine?.date;
    return date ? new Date(date.getTime() + (position - this.video.currentTime) * 1000) : null;
  }

  /** The time of day that is shown, of a channel that was wound back; null where the viewer is at its live edge. */
  get woundBackTo() {
    const [, edge] = this.seekable;
    return edge - this.video.currentTime > AT_LIVE_S ? this.dateAt(this.video.currentTime) : null;
  }

  /** Goes to a position within what can be sought to. */
  seekTo(position) {
    const [start, end] = this.seekable;
    if (this.source?.isLive && position >= end) this.goToEdge();
    else if (end > start) this.#goTo(Math.min(Math.max(position, start), end));
  }

  goToEdge() {
    const [, edge] = this.seekable;
    if (edge) this.#goTo(edge);
    this.play();
  }

  #goTo(position) {
    this.video.currentTime = position;
    this.#follow(position);
  }

  /** Keeps a viewer live who is, and one who paused or wound back where that is. */
  #follow(position) {
    const [, edge] = this.seekable;
    if (this.source?.isLive) this.engine?.follow?.(edge - position <= AT_LIVE_S);
  }

  #unload() {
    this.#leaving = this.engine?.destroy() ?? this.#leaving;
    this.engine = null;
  }

  async #load(start, play) {
    const { source } = this;
    this.#unload();
    if (this.#leaving) {
      // One that gives the element back late would take it from the next one.
      await this.#leaving;
      this.#leaving = null;
      if (source !== this.source || this.engine) return;
    }
    // Asked before the element: Chromium answers "maybe" to m3u8 and then plays it without our levels and latency.
    const Chosen = ENGINES[source.mode].isSupported?.() === false ? NativeEngine : ENGINES[source.mode];
    if (Chosen === NativeEngine && source.mode !== "file" && !(NativeEngine.playsHls() && source.mode !== "dash")) {
      this.#message(`This browser can't play adaptive streams. ${source.plays?.file ? "Choose “Whole file”, or use" : "Use"} a newer browser.`);
      return;
    }
    const engine = new Chosen(this.video, source, start, {
      changed: (kind) => {
        if (engine !== this.engine) return;
        // Browsers show text of a language again that was shown last, and Shaka takes that for the viewer's choice.
        if (kind || source.burned) this.#recallTrack(kind ?? "captions");
        this.#changed();
      },
      failed: (error) => engine === this.engine && this.#onEngineError(error),
    });
    this.engine = engine;
    if (play && engine.ready) engine.ready.then(() => engine === this.engine && this.play());
    else if (play) this.play();
    this.#changed();
  }

  #remember(kind, index) {
    const { names, languages } = this[kind];
    this.#chosen = { ...this.#chosen, [kind]: languages[index] ? { language: languages[index], name: names[index] } : null };
    keep("tracks", this.#chosen);
  }

  /** Selects the text track that was chosen, or the track of the last language; of several the one of the same name. */
  #recallTrack(kind) {
    const { names, languages, chosen } = this.engine[kind];
    const { language, name } = this.#chosen[kind] ?? {};
    const same = languages.flatMap((one, index) => (one && one === language ? [index] : []));
    const recalled = same.find((one) => names[one] === name) ?? same[0] ?? chosen;
    const index = (kind === "captions" ? this.source.text : undefined) ?? recalled;
    if (index === chosen || index >= names.length) return;
    if (kind === "sounds") this.engine.setSound(index);
    else this.engine.setCaptions(index);
  }

  async #onEngineError({ kind, status }) {
    const { engine, source } = this;
    if (kind === "codecs") {
      this.#refuse();
      return;
    }
    if (kind === "media" && engine.recover && performance.now() - this.#mediaErrorAt > MEDIA_ERROR_PAUSE_MS) {
      this.#mediaErrorAt = performance.now();
      this.recoveries += 1;
      engine.recover();
      return;
    }
    const found = await lookAgain(status, source.url);
    if (engine !== this.engine) return;
    const text = refusalOf(found) || (status === 404
      ? sentence(found.lines[0] ?? "") || "The server has nothing at this address at the moment."
      : kind === "network"
        ? "The connection to the server was lost."
        : "Playback was interrupted.");
    this.#again(text, () => {
      // Resume loading first, while the buffer plays on; rebuild the player only if that fails.
      const maySuffice = kind === "network" && this.#retry.attempts <= RELOADS_BEFORE_REBUILD;
      if (!(maySuffice && this.engine?.resume?.())) this.#rebuild();
    });
  }

  async #onNativeError() {
    const { source } = this;
    if (!source || !(this.engine instanceof NativeEngine) || !this.video.error) return;
    const found = await lookAt(source.url);
    const { status } = found;
    if (source !== this.source || !(this.engine instanceof NativeEngine)) return;
    if (status === 404) {
      this.#message("This file isn't in the library any more. Choose another one.");
    } else if (status === 200 && this.video.error?.code !== MediaError.MEDIA_ERR_NETWORK) {
      this.#refuse();
    } else {
      this.#again(refusalOf(found) || "The connection to the server was lost.", () => this.#rebuild());
    }
  }

  /** Advice where the browser can't play an item in the way that was tried. */
  get #advice() {
    const { mode, plays } = this.source;
    const other = mode === "file" ? plays?.hls && "“Adaptive”" : plays?.file && "“Whole file”";
    return other ? `Try ${other}, or download the file and use another player.` : "Download the file and use another player.";
  }

  #refuse() {
    const { mode, isLive } = this.source;
    if (isLive) this.#message("This browser can't play this channel. Use another browser or player.");
    else this.#message(`This browser can't play this ${mode === "file" ? "file" : "film in segments"}. ${this.#advice}`);
  }

  /** Says so where time passes without the picture or the sound that a file has: browsers play on without. */
  #noticeWhatIsMissing() {
    const { tracks } = this.source;
    const { video } = this;
    if (!tracks || document.hidden || video.remote?.state === "connected") return;
    if (playedSeconds(video) < DECODED_AFTER_S && !video.ended) return;
    const missing = [
      tracks.picture && video.getVideoPlaybackQuality().totalVideoFrames === 0 && ["picture", tracks.picture],
      tracks.sound && hasSound(video) === false && ["sound", tracks.sound],
    ].filter(Boolean);
    const [names, codecs] = [0, 1].map((index) => missing.map((one) => one[index]).join(" and "));
    const text = missing.length && `The file plays without ${names}: this browser decodes none of its ${codecs}. ${this.#advice}`;
    if ((text || "") === this.#missing) return;
    this.#missing = text || "";
    this.#message(this.#missing);
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
    const found = await lookAt(source.url);
    if (source !== this.source) return;
    if (found.status !== 200) {
      this.#again(refusalOf(found) || sentence(found.lines[0] ?? "") || "The server doesn't answer.", () => this.#rebuild());
      return;
    }
    const { isLive, start } = source;
    this.#load(isLive ? 0 : this.video.currentTime || start, isLive || !this.video.paused);
  }

  #check() {
    if (!this.source) return;
    this.#goToWantedDate();
    this.#noticeWhatIsMissing();
    this.#joinNextEvent();
    this.#leaveFormerTime();
    this.#progress.check(this.video, LIVE_STUCK_MS, {
      moved: () => {
        if (!this.#troubled || this.#retry.pending) return;
        this.#troubled = false;
        this.#retry.reset();
        this.#message(this.#missing);
      },
      stuck: () => {
        if (this.source.isLive) this.#again("The channel stopped.", () => this.#rebuild());
      },
    });
  }

  /** Plays a channel's next event where the one before it ended, whose playlists are asked for no more. */
  #joinNextEvent() {
    if (!this.#isOver || this.#channelState !== "live" || !this.video.ended) return;
    this.#isOver = false;
    this.#rebuild();
  }

  /** Begins anew where a restart of the server has put the edge before what was shown: the player would wait for it there. */
  #leaveFormerTime() {
    const [, edge] = this.seekable;
    const { currentTime, paused, readyState } = this.video;
    const isStalled = !paused && readyState <= HTMLMediaElement.HAVE_CURRENT_DATA;
    if (!isStalled || !edge || this.#channelState !== "live" || currentTime <= edge + AHEAD_OF_EDGE_S) return;
    this.#again("The channel stopped.", () => this.#rebuild());
  }

  /** Pauses once where the clip ends that was asked for; who plays on sees the rest. */
  #stopAtEnd() {
    if (!this.source?.end || this.video.currentTime < this.source.end) return;
    this.source.end = 0;
    this.video.pause();
  }

  /** Goes on where another engine was, once the channel says what time it shows. */
  #goToWantedDate() {
    const date = this.#wantedDate && this.engine?.date;
    if (!date) return;
    this.seekTo(this.video.currentTime + (this.#wantedDate - date) / 1000);
    this.#wantedDate = null;
  }

  #message(text) {
    this.dispatchEvent(new CustomEvent("message", { detail: text }));
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

function playedSeconds({ played }) {
  return Array.from({ length: played.length }, (_, index) => played.end(index) - played.start(index)).reduce((sum, one) => sum + one, 0);
}

/** Whether a sound is decoded, as each browser says it in its own way; null where it doesn't. */
function hasSound(video) {
  if (video.audioTracks) return video.audioTracks.length > 0;
  if (video.mozHasAudio !== undefined) return video.mozHasAudio;
  return video.webkitAudioDecodedByteCount === undefined ? null : video.webkitAudioDecodedByteCount > 0;
}
