// hls.js as an engine.

import Hls from "../vendor/hls.min.mjs";

const VOD_BUFFER_S = 30;
const BACK_BUFFER_S = 30;
const CATCH_UP_RATE = 1.08;

/** The errors by which hls.js reports that the browser has no decoder for any of the levels. */
const UNSUPPORTED = [Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR, Hls.ErrorDetails.BUFFER_ADD_CODEC_ERROR];

/** Reads captions in the picture through parts: hls.js 1.7 takes each further part of a segment for a break. */
class CaptionsController extends Hls.DefaultConfig.timelineController {
  onFragLoading(event, data) {
    const { frag, part } = data;
    if (part && frag.sn === this.lastSn && part.index === this.lastPartIndex + 1) this.lastSn -= 1;
    super.onFragLoading(event, data);
  }
}

export class HlsEngine {
  hls;
  #video;
  #listening = new AbortController();
  ready = null;
  #isLive;
  #isFollowing = true;

  static isSupported = () => Hls.isSupported();

  constructor(video, { url, isLive, buffer, level }, start, { changed, failed }) {
    this.#video = video;
    this.#isLive = isLive;
    // What grows but isn't live, such as a programme, is watched from its beginning.
    this.#isFollowing = isLive;
    const hls = new Hls({
      lowLatencyMode: isLive,
      maxLiveSyncPlaybackRate: isLive ? CATCH_UP_RATE : 1,
      backBufferLength: BACK_BUFFER_S,
      maxBufferLength: buffer || VOD_BUFFER_S,
      maxMaxBufferLength: buffer || VOD_BUFFER_S * 2,
      startPosition: isLive || !start ? -1 : start,
      startLevel: level >= 0 ? level : undefined,
      timelineController: CaptionsController,
      enableWorker: false, // fragmented MP4 passes through; there is nothing to transmux in a worker
    });
    this.hls = hls;
    const { MANIFEST_PARSED, LEVELS_UPDATED, LEVEL_SWITCHED, SUBTITLE_TRACK_SWITCH, AUDIO_TRACK_SWITCHING } = Hls.Events;
    const events = [MANIFEST_PARSED, LEVELS_UPDATED, LEVEL_SWITCHED, SUBTITLE_TRACK_SWITCH, AUDIO_TRACK_SWITCHING];
    for (const event of events) hls.on(event, () => changed());
    // Behind this event hls.js selects the default track, whatever was selected meanwhile.
    hls.on(Hls.Events.SUBTITLE_TRACKS_UPDATED, () => queueMicrotask(() => changed("captions")));
    // It makes those of captions in the picture when the first of their text comes.
    video.textTracks.addEventListener("addtrack", () => changed("captions"), { signal: this.#listening.signal });
    hls.on(Hls.Events.AUDIO_TRACKS_UPDATED, () => changed("sounds"));
    // Between its target and here hls.js plays faster; further behind it would stay where it is for ever.
    hls.on(Hls.Events.LEVEL_UPDATED, (_, { details }) => {
      hls.config.liveMaxLatencyDuration = this.#isFollowing ? 2 * hls.targetLatency + details.targetduration : Infinity;
    });
    hls.on(Hls.Events.ERROR, (_, data) => data.fatal && failed({
      kind: UNSUPPORTED.includes(data.details) ? "codecs"
        : { [Hls.ErrorTypes.MEDIA_ERROR]: "media", [Hls.ErrorTypes.NETWORK_ERROR]: "network" }[data.type] ?? "other",
      status: data.response?.code,
    }));
    hls.loadSource(url);
    hls.attachMedia(video);
  }

  get levels() {
    return this.hls.levels;
  }

  get level() {
    return this.hls.currentLevel;
  }

  get isAutomatic() {
    return this.hls.autoLevelEnabled;
  }

  get chosenLevel() {
    return this.hls.autoLevelEnabled ? -1 : this.hls.manualLevel;
  }

  setLevel(index) {
    if (index < 0) this.hls.loadLevel = -1;
    else this.hls.nextLevel = index;
  }

  /** The text tracks that hls.js makes of captions in the picture (CEA-608 and CEA-708). */
  get #inPicture() {
    const isText = ({ label }) => this.hls.subtitleTracks.some((one) => one.name === label);
    return Array.from(this.#video.textTracks).filter((track) => track.kind === "captions" && !isText(track));
  }

  get captions() {
    const { subtitleTracks: tracks, subtitleTrack } = this.hls, inPicture = this.#inPicture;
    const shown = inPicture.findIndex((track) => track.mode === "showing");
    return {
      names: [...tracks.map((one) => one.name), ...inPicture.map((track) => track.label)],
      languages: [...tracks.map((one) => one.lang), ...inPicture.map((track) => track.language)],
      chosen: shown < 0 ? subtitleTrack : tracks.length + shown,
    };
  }

  setCaptions(index) {
    const count = this.hls.subtitleTracks.length;
    this.hls.subtitleTrack = index < count ? index : -1;
    this.#inPicture.forEach((track, number) => { track.mode = number === index - count ? "showing" : "hidden"; });
  }

  get sounds() {
    const { audioTracks: tracks, audioTrack } = this.hls;
    return { names: tracks.map((one) => one.name), languages: tracks.map((one) => one.lang), chosen: audioTrack };
  }

  setSound(index) {
    this.hls.audioTrack = index;
  }

  get bandwidth() {
    return Number.isFinite(this.hls.bandwidthEstimate) ? this.hls.bandwidthEstimate : null;
  }

  get latency() {
    return this.#isLive ? this.hls.latency || null : null;
  }

  get targetLatency() {
    return this.#isLive ? this.hls.targetLatency : null;
  }

  get date() {
    return this.hls.playingDate;
  }

  get seekable() {
    const { hls } = this;
    if (!this.#isLive) return null;
    const details = hls.latestLevelDetails;
    if (!details?.fragments.length) return [0, 0];
    // Of an event that is over, nothing leaves the playlist: all of it can be sought to.
    if (!details.live) return null;
    const end = hls.liveSyncPosition ?? details.edge;
    // A segment that leaves the playlist while it is loaded can't be played, and hls.js would go to the live edge.
    return [Math.min(details.fragments[0].start + 2 * details.targetduration, end), end];
  }

  follow(isFollowing) {
    this.#isFollowing = isFollowing;
  }

  /** Decodes on after an error of the media; gives whether that can be tried. */
  recover() {
    this.hls.recoverMediaError();
    return true;
  }

  /** Loads on after an error of the network, while the buffer plays; gives whether that can be tried. */
  resume() {
    if (this.hls.levels.length === 0) return false;
    this.hls.startLoad();
    return true;
  }

  destroy() {
    this.#listening.abort();
    this.hls.destroy();
  }
}
