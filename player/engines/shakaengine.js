// Shaka Player as an engine, for DASH. Its script is fetched when somebody first chooses it.

const VOD_BUFFER_S = 30;
const BACK_BUFFER_S = 30;

/** How fast Shaka plays at most to catch up with the live edge. */
const CATCH_UP_RATE = 1.1;

export class ShakaEngine {
  /** Fulfilled when the browser may be told to play. */
  ready;
  #video;
  #isLive;
  #report;
  #player = null;
  #isOver = false;

  static isSupported = () => Boolean(window.ManagedMediaSource ?? window.MediaSource);

  constructor(video, source, start, report) {
    this.#video = video;
    this.#isLive = source.isLive;
    this.#report = report;
    this.ready = this.#start(source, start).catch((error) => this.#fail(error));
  }

  async #start({ url, buffer }, start) {
    await import("../vendor/shaka-player.dash.js"); // not a module: it leaves its name in the window
    if (this.#isOver) return;
    const player = new window.shaka.Player();
    this.#player = player;
    const { changed } = this.#report;
    player.configure({
      streaming: {
        lowLatencyMode: this.#isLive, liveSync: { enabled: this.#isLive },
        bufferingGoal: buffer || VOD_BUFFER_S, bufferBehind: BACK_BUFFER_S,
      },
    });
    for (const event of ["adaptation", "variantchanged", "textchanged"]) player.addEventListener(event, () => changed());
    player.addEventListener("trackschanged", () => {
      changed("sounds");
      changed("captions");
    });
    player.addEventListener("error", ({ detail }) => this.#fail(detail));
    await player.attach(this.#video);
    if (this.#isOver) return;
    await player.load(url, this.#isLive || !start ? null : start);
  }

  #fail(error) {
    const { Category, Code, Severity } = window.shaka?.util.Error ?? {};
    if (this.#isOver || error.code === Code?.LOAD_INTERRUPTED || error.severity === Severity?.RECOVERABLE) return;
    const kind = error.code === Code?.CONTENT_UNSUPPORTED_BY_BROWSER ? "codecs"
      : error.category === Category?.NETWORK ? "network" : error.category === Category?.MEDIA ? "media" : "other";
    this.#report.failed({ kind, status: error.code === Code?.BAD_HTTP_STATUS ? error.data?.[1] : undefined });
  }

  /** The smallest first, as hls.js has them: Shaka gives no order. */
  get #variants() {
    return (this.#player?.getVariantTracks() ?? []).sort((one, other) => one.bandwidth - other.bandwidth);
  }

  get levels() {
    return this.#variants.map(({ height, width, bandwidth }) => ({ height, width, bitrate: bandwidth }));
  }

  get level() {
    return this.#variants.findIndex((track) => track.active);
  }

  get isAutomatic() {
    return this.#player?.getConfiguration().abr.enabled ?? true;
  }

  get chosenLevel() {
    return this.isAutomatic ? -1 : this.level;
  }

  setLevel(index) {
    this.#player?.configure({ abr: { enabled: index < 0 } });
    const track = this.#variants[index];
    if (track) this.#player.selectVariantTrack(track, true);
  }

  get captions() {
    const tracks = this.#player?.getTextTracks() ?? [];
    return {
      // Of captions in the picture nothing says the language; their channel or service is their id.
      names: tracks.map((track) => track.label ?? (track.language === "und" && track.originalTextId || track.language)),
      languages: tracks.map((track) => track.language),
      chosen: tracks.findIndex((track) => track.active),
    };
  }

  setCaptions(index) {
    this.#player?.selectTextTrack(this.#player.getTextTracks()[index] ?? null);
  }

  get sounds() {
    const tracks = this.#player?.getAudioTracks() ?? [];
    return {
      names: tracks.map((track) => track.label ?? track.language),
      languages: tracks.map((track) => track.language),
      chosen: tracks.findIndex((track) => track.active),
    };
  }

  setSound(index) {
    const track = this.#player?.getAudioTracks()[index];
    if (track) this.#player.selectAudioTrack(track);
  }

  get bandwidth() {
    return this.#player?.getStats().estimatedBandwidth || null;
  }

  get latency() {
    return this.#isLive ? this.#player?.getStats().liveLatency || null : null;
  }

  get targetLatency() {
    return this.#isLive ? this.#player?.getConfiguration().streaming.liveSync.targetLatency ?? null : null;
  }

  get date() {
    return this.#isLive && this.#video.readyState > 0 ? this.#player?.getPlayheadTimeAsDate() ?? null : null;
  }

  get seekable() {
    if (!this.#player || !this.#isLive) return null;
    const { start, end } = this.#player.seekRange();
    return [start, end];
  }

  follow(isFollowing) {
    // Switched off, it would go by the manifest's ServiceDescription, and catch up as well.
    this.#player?.configure({ streaming: { liveSync: { maxPlaybackRate: isFollowing ? CATCH_UP_RATE : 1 } } });
  }

  resume() {
    return this.#player?.retryStreaming() ?? false;
  }

  /** Releases the video element: the next engine waits for that. */
  async destroy() {
    this.#isOver = true;
    await this.#player?.destroy();
  }
}
