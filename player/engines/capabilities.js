// What this browser can play, as it says itself.

const CODECS = { h264: "H.264", hevc: "HEVC", av1: "AV1", vp9: "VP9", vp8: "VP8", aac: "AAC", mp3: "MP3", opus: "Opus", ac3: "AC-3", eac3: "E-AC-3", flac: "FLAC", mpeg4: "MPEG-4 Part 2" };
/** Types of files that browsers know under another name: QuickTime's are read as MP4, Matroska's as WebM. */
const ALSO = { "video/quicktime": "video/mp4", "video/x-m4v": "video/mp4", "video/matroska": "video/webm", "video/x-matroska": "video/webm" };
const MOST_KEPT = 500;

const element = document.createElement("video");
const kept = new Map();

/** The names of an item's codecs as people know them. */
export const codecNames = (item) => item.codecs.split(/, */).map((codec) => CODECS[codec] ?? codec);

/**
 * Asks the browser about an item of the library.
 * @returns {file, hls: whether it plays as a whole file and adaptively, reason: why neither, or ""}
 */
export function judge(item) {
  if (item.playable === null) return { file: true, hls: false, reason: "" };
  if (!item.content_type) return { file: false, hls: false, reason: item.reason ?? "this kind of file isn't known" };
  if (!kept.has(item.content_type)) {
    if (kept.size >= MOST_KEPT) kept.clear();
    kept.set(item.content_type, ask(item.content_type));
  }
  const { file, segments, refused } = kept.get(item.content_type);
  const hls = Boolean(item.hls) && segments;
  return { file, hls, reason: file || hls ? "" : explain(item, refused) };
}

/** Says whether an item plays smoothly on this machine, by the browser's own measurements; null where it can't tell. */
export async function isSmooth(item) {
  const [container, list] = parse(item.content_type ?? "");
  // Of a type that it doesn't know it would complain in its console.
  if (!navigator.mediaCapabilities || !judge(item).file || !item.width || !item.frame_rate || !item.duration) return null;
  const answer = await navigator.mediaCapabilities.decodingInfo({
    type: "file",
    video: {
      contentType: `${ALSO[container] ?? container}; codecs="${list[0]}"`,
      width: item.width,
      height: item.height,
      bitrate: Math.max(1, Math.round((8 * item.size) / item.duration)),
      framerate: item.frame_rate,
    },
  }).catch(() => null);
  return answer?.supported ? answer.smooth : null;
}

function parse(type) {
  const [, container = "", codecs = ""] = type.match(/^([^;]+)(?:; codecs="(.*)")?$/) ?? [];
  return [container, codecs.split(", ")];
}

function plays(container, codecs) {
  const types = [container, ALSO[container]].filter(Boolean);
  return types.some((one) => element.canPlayType(`${one}; codecs="${codecs.join(", ")}"`) !== "");
}

function ask(type) {
  const [container, codecs] = parse(type);
  const Source = window.ManagedMediaSource ?? window.MediaSource;
  const inSegments = `${container.startsWith("audio/") ? "audio" : "video"}/mp4; codecs="${codecs.join(", ")}"`;
  const native = element.canPlayType("application/vnd.apple.mpegurl") !== "" && plays("video/mp4", codecs);
  return {
    file: plays(container, codecs),
    segments: Source?.isTypeSupported(inSegments) || native,
    refused: codecs.map((codec) => !plays(container, [codec]) && !plays("video/mp4", [codec])),
  };
}

function explain(item, refused) {
  const names = codecNames(item).filter((_, index) => refused[index]);
  const ending = item.path.match(/\.([^.]+)$/)?.[1].toUpperCase() ?? "such";
  return names.length ? `this browser says that it doesn't play ${[...new Set(names)].join(" and ")}`
    : `this browser says that it doesn't play ${ending} files of this kind`;
}
