// hls.js as an engine.

import Hls from "../vendor/hls.min.mjs";

const VOD_BUFFER_S = 30;
const BACK_BUFFER_S = 30;
const CATCH_UP_RATE = 1.08;

/** The errors by which hls.js reports that the browser has no decoder for any of the levels. */
const UNSUPPORTED = [Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR, Hls.ErrorDetails.BUFFER_ADD_CODEC_ERROR];

export class HlsEngine {
  hls;
  ready = null;
  #isLive;
  #isFollowing = true;

  static isSupported = () => Hls.isSupported();

  constructor(video, { url, isLive, buffer, level }, start, { changed, failed }) {
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
      enableWorker: false, // fragmented MP4 passes through; there is nothing to transmux in a worker
    });
    this.hls = hls;
    const { MANIFEST_PARSED, LEVELS_UPDATED, LEVEL_SWITCHED, SUBTITLE_TRACK_SWITCH, AUDIO_TRACK_SWITCHING } = Hls.Events;
    const events = [MANIFEST_PARSED, LEVELS_UPDATED, LEVEL_SWITCHED, SUBTITLE_TRACK_SWITCH, AUDIO_TRACK_SWITCHING];
    for (const event of events) hls.on(event, () => changed());
    // Behind this event hls.js selects the default track, whatever was selected meanwhile.
    hls.on(Hls.Events.SUBTITLE_TRACKS_UPDATED, () => queueMicrotask(() => changed("captions")));
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

  get captions() {
    const { subtitleTracks: tracks, subtitleTrack } = this.hls;
    return { names: tracks.map((one) => one.name), languages: tracks.map((one) => one.lang), chosen: subtitleTrack };
  }

  setCaptions(index) {
    this.hls.subtitleTrack = index;
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
    this.hls.destroy();
  }
}
