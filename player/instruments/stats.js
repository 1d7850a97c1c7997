// Playback statistics, read from the player each time.

import { bits } from "../dom.js";

const ms = (date) => (date ? Date.now() - date.getTime() : null);
/** A distance from live; null for a negative one: the live edge is only estimated, and two clocks may differ. */
const distance = (seconds) => (seconds >= 0 ? seconds : null);

export const levelName = (level) => (level.height ? `${level.height}p` : bits(level.bitrate));

/** @returns everything measurable now; seconds, bit/s, frames; null where it has no meaning. */
export function read(playback) {
  const { engine, video, source } = playback;
  const isLive = source?.isLive ?? false;
  const level = engine?.levels[engine.level];
  const wall = isLive ? ms(engine?.date) : null;
  const latency = engine?.latency ?? null;
  const frames = video.getVideoPlaybackQuality();
  return Object.freeze({
    mode: source?.mode ?? null,
    isLive,
    url: source?.url ?? null,
    paused: video.paused,
    currentTime: video.currentTime,
    width: video.videoWidth,
    height: video.videoHeight,
    level: engine?.level ?? null,
    levels: engine?.levels.length ?? 0,
    automatic: engine?.isAutomatic ?? null,
    levelBitrate: level?.bitrate || null,
    bandwidth: engine?.bandwidth ?? null,
    buffer: bufferAhead(video),
    latency: latency === null ? null : distance(latency),
    targetLatency: engine?.targetLatency ?? null,
    wallLatency: wall === null ? null : distance(wall / 1000),
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
