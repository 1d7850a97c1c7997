// Playback statistics, read from the player each time.

import { bits, byId, say } from "./dom.js";

const ms = (date) => (date ? Date.now() - date.getTime() : null);

export const levelName = (level) => (level.height ? `${level.height}p` : bits(level.bitrate));

/** @returns everything measurable now; seconds, bit/s, frames; null where it has no meaning. */
export function read(playback) {
  const { hls, video, source } = playback;
  const live = source?.mode === "live";
  const level = hls?.levels[hls.currentLevel];
  const wall = live && hls ? ms(hls.playingDate) : null;
  const frames = video.getVideoPlaybackQuality();
  return Object.freeze({
    mode: source?.mode ?? null,
    url: source?.url ?? null,
    paused: video.paused,
    currentTime: video.currentTime,
    width: video.videoWidth,
    height: video.videoHeight,
    level: hls ? hls.currentLevel : null,
    levels: hls ? hls.levels.length : 0,
    automatic: hls ? hls.autoLevelEnabled : null,
    levelBitrate: level?.bitrate || null,
    bandwidth: hls && Number.isFinite(hls.bandwidthEstimate) ? hls.bandwidthEstimate : null,
    buffer: bufferAhead(video),
    latency: live && hls?.latency ? hls.latency : null,
    targetLatency: live ? (hls?.targetLatency ?? null) : null,
    wallLatency: wall === null ? null : wall / 1000,
    rate: video.playbackRate,
    decoded: frames.totalVideoFrames,
    dropped: frames.droppedVideoFrames,
    recoveries: playback.recoveries,
  });
}

function bufferAhead(video) {
  const { buffered, currentTime } = video;
  for (let index = 0; index < buffered.length; index += 1) {
    // Half a frame of tolerance: the first frame may begin a little after zero.
    if (buffered.start(index) - 0.1 <= currentTime && currentTime < buffered.end(index)) {
      return buffered.end(index) - currentTime;
    }
  }
  return 0;
}

const seconds = (value) => `${value.toFixed(value < 10 ? 1 : 0)} s`;

export function show(stats, levels) {
  const level = levels[stats.level];
  gauge("level", level?.height ? levelName(level) : stats.height ? `${stats.height}p` : "–",
    stats.levelBitrate ? bits(stats.levelBitrate) : stats.width ? `${stats.width} × ${stats.height}` : "");
  gauge("bandwidth", stats.bandwidth === null ? "–" : bits(stats.bandwidth), stats.bandwidth === null ? "" : "estimate");
  gauge("buffer", stats.mode ? seconds(stats.buffer) : "–", stats.mode ? "ahead" : "");
  gauge("latency", stats.latency === null ? "–" : seconds(stats.latency),
    stats.wallLatency === null ? "" : `${stats.wallLatency.toFixed(1)} s by the clock`);
  gauge("frames", stats.decoded ? `${stats.dropped} lost` : "–", stats.decoded ? `of ${stats.decoded}` : "");
  byId("g-latency-box").hidden = stats.mode !== "live";
}

function gauge(name, value, more) {
  say(byId(`g-${name}`), value);
  say(byId(`g-${name}-more`), more);
}
