// The formats that this browser can play, by its own account.

const CODECS = {
  h264: "H.264", hevc: "HEVC", av1: "AV1", vp9: "VP9", vp8: "VP8", mpeg4: "MPEG-4 Part 2", msmpeg4v3: "DivX 3", mpeg2video: "MPEG-2",
  mpeg1video: "MPEG-1", h263: "H.263", mjpeg: "Motion JPEG", prores: "ProRes", theora: "Theora", vc1: "VC-1", wmv3: "WMV 9",
  aac: "AAC", mp3: "MP3", mp2: "MP2", opus: "Opus", vorbis: "Vorbis", flac: "FLAC", alac: "Apple Lossless", ac3: "AC-3",
  eac3: "E-AC-3", dts: "DTS", wmav2: "WMA",
};
/** Types of files that browsers know under another name: QuickTime's are read as MP4, Matroska's as WebM. */
const ALSO = { "video/quicktime": "video/mp4", "video/x-m4v": "video/mp4", "video/matroska": "video/webm", "video/x-matroska": "video/webm" };
/** Types that say the codec by themselves; of some of them browsers deny what names it once more. */
const OF_ONE_CODEC = ["audio/flac", "audio/aac", "audio/mpeg"];
const MOST_KEPT = 500;

const element = document.createElement("video");
const kept = new Map();

/** The names of an item's codecs as people know them. */
export const codecNames = (item) => item.codecs.split(/, */).map((codec) => CODECS[codec] ?? codec.replace(/^pcm_.*/, "PCM"));

/** The names of the picture's codec and of the sounds', as people know them. */
export function tracksOf(item) {
  const names = item.codecs ? codecNames(item) : [];
  const pictures = names.splice(0, item.width ? 1 : 0);
  return { picture: pictures[0] ?? "", sound: names.join(", ") };
}

/**
 * Asks the browser about an item of the library.
 * @returns {file, hls: whether it plays as a whole file and adaptively, reason: why neither, or ""}
 */
export function judge(item) {
  if (item.playable === null) return { file: true, hls: false, reason: "" };
  // Without ffprobe nobody knows the codecs: then the browser finds out by playing.
  if (!item.content_type && item.playable) return { file: true, hls: Boolean(item.hls), reason: "" };
  if (!item.content_type) return { file: false, hls: false, reason: item.reason ?? "this kind of file isn't known" };
  const key = `${item.content_type} ${Boolean(item.width)}`;
  if (!kept.has(key)) {
    if (kept.size >= MOST_KEPT) kept.clear();
    kept.set(key, ask(item.content_type, item.width ? 1 : 0));
  }
  const { file, segments, refused } = kept.get(key);
  const hls = Boolean(item.hls) && segments;
  return { file, hls, reason: file || hls ? "" : explain(item, refused) };
}

/** Says whether an item plays smoothly on this machine, by the browser's own measurements; null where it can't tell. */
export async function isSmooth(item) {
  const [, [codec]] = parse(item.content_type ?? "");
  // What a picture costs is its codec's affair, and of a type that it doesn't know a browser complains in its console.
  const container = ["video/mp4", "video/webm"].find((one) => plays(one, [codec]));
  if (!navigator.mediaCapabilities || !container || !item.width || !item.frame_rate || !item.duration) return null;
  const answer = await navigator.mediaCapabilities.decodingInfo({
    type: "file",
    video: {
      contentType: `${container}; codecs="${codec}"`,
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
  const types = [container, ALSO[container]].filter(Boolean).map((one) => `${one}; codecs="${codecs.join(", ")}"`);
  if (OF_ONE_CODEC.includes(container)) types.push(container);
  return types.some((type) => element.canPlayType(type) !== "");
}

/** @param pictures how many of the codecs, the first ones, are of pictures: a player needs one of them, and one sound */
function ask(type, pictures) {
  const [container, codecs] = parse(type);
  const sounds = codecs.slice(pictures);
  const choices = (sounds.length ? sounds : [[]]).map((sound) => codecs.slice(0, pictures).concat(sound));
  const Source = window.ManagedMediaSource ?? window.MediaSource;
  const kind = container.startsWith("audio/") ? "audio" : "video";
  const native = element.canPlayType("application/vnd.apple.mpegurl") !== "";
  return {
    file: choices.some((choice) => plays(container, choice)),
    segments: choices.some((choice) => Source?.isTypeSupported(`${kind}/mp4; codecs="${choice.join(", ")}"`)
      || (native && plays("video/mp4", choice))),
    refused: codecs.map((codec) => !plays(container, [codec]) && !plays("video/mp4", [codec])),
  };
}

function explain(item, refused) {
  const names = codecNames(item).filter((_, index) => refused[index]);
  const ending = item.path.match(/\.([^.]+)$/)?.[1].toUpperCase() ?? "such";
  return names.length ? `this browser says that it doesn't play ${[...new Set(names)].join(" and ")}`
    : `this browser says that it doesn't play ${ending} files of this kind`;
}
