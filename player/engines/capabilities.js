// The formats that this browser can play, by its own account.

import { decide, partsOf } from "./decision.js";
import { playsPcmInMovies } from "./pcmtrial.js";

const CODECS = {
  h264: "H.264", hevc: "HEVC", av1: "AV1", vp9: "VP9", vp8: "VP8", mpeg4: "MPEG-4 Part 2", msmpeg4v3: "DivX 3", mpeg2video: "MPEG-2",
  mpeg1video: "MPEG-1", h263: "H.263", mjpeg: "Motion JPEG", prores: "ProRes", theora: "Theora", vc1: "VC-1", wmv3: "WMV 9", wmv2: "WMV 8",
  wmv1: "WMV 7", msmpeg4v2: "MS MPEG-4 2", flv1: "Sorenson H.263", dvvideo: "DV",
  aac: "AAC", mp3: "MP3", mp2: "MP2", opus: "Opus", vorbis: "Vorbis", flac: "FLAC", alac: "Apple Lossless", ac3: "AC-3",
  eac3: "E-AC-3", dts: "DTS", wmav2: "WMA", wmav1: "WMA", wmapro: "WMA Pro",
};
/** Types of files that browsers know under another name: QuickTime's are read as MP4, Matroska's as WebM. */
const ALSO = { "video/quicktime": "video/mp4", "video/x-m4v": "video/mp4", "video/matroska": "video/webm", "video/x-matroska": "video/webm" };
/** Types that say the codec by themselves; of some of them browsers deny what names it once more. */
const OF_ONE_CODEC = ["audio/flac", "audio/aac", "audio/mpeg"];
/** The format tags of WAVE that all browsers play: PCM, floats, A-law and µ-law, of which Chromium admits the first alone. */
const WAVE = ["1", "3", "6", "7"];
const MOVIES = ["video/mp4", "video/quicktime"];
const isPcm = (codec) => codec === "1" || codec === "pcm_s16be" || codec === "pcm_s24be";
const MOST_KEPT = 500;

const element = document.createElement("video");
const Source = window.ManagedMediaSource ?? window.MediaSource;

/** A function whose answers are kept, since it is asked for each row of the list again and again. */
function once(ask) {
  const kept = new Map();
  return (...question) => {
    const key = question.join();
    if (kept.size >= MOST_KEPT) kept.clear();
    if (!kept.has(key)) kept.set(key, ask(...question));
    return kept.get(key);
  };
}

/** The names of an item's codecs as people know them. */
export const codecNames = (item) => item.codecs.split(/, */).map((codec) => CODECS[codec] ?? codec.replace(/^pcm_.*/, "PCM"));

/** The names of the picture's codec and of the sounds', as people know them. */
export function tracksOf(item) {
  const names = item.codecs ? codecNames(item) : [];
  const pictures = names.splice(0, item.width ? 1 : 0);
  return { picture: pictures[0] ?? "", sound: names.join(", ") };
}

/** What the browser plays; see `decide`. Its answers are kept. */
const browser = {
  file: once((container, codecs) => plays(container, codecs)),
  segments: once((kind, codecs) => (Source ? Source.isTypeSupported(`${kind}/mp4; codecs="${codecs.join(", ")}"`)
    : element.canPlayType("application/vnd.apple.mpegurl") !== "" && plays("video/mp4", codecs))),
  refused: once((container, codec) => !plays(container, [codec]) && !plays("video/mp4", [codec])),
  choosesSounds: element.audioTracks !== undefined,
};

/**
 * Decides how this browser plays an item of the library.
 * @returns {way, file, hls} as `decide`, reason: why in no way, or "", and lacking: the codecs of its sounds that can't be heard here, or ""
 */
export function judge(item) {
  const { refused, unheard, ...can } = decide(item, browser);
  if (can.way) return { ...can, reason: "", lacking: unheard.includes(true) ? named(item, unheard) : "" };
  return { ...can, reason: item.content_type ? explain(item, refused) : item.reason ?? "this kind of file isn't known" };
}

/** Says whether an item plays smoothly on this machine, by the browser's own measurements; null where it can't tell. */
export async function isSmooth(item) {
  const [codec] = partsOf(item).pictures;
  // What a picture costs is its codec's affair, and of a type that it doesn't know a browser complains in its console.
  const container = ["video/mp4", "video/webm"].find((one) => plays(one, [codec]));
  if (!navigator.mediaCapabilities || !codec || !container || !item.frame_rate || !item.duration) return null;
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

function plays(container, codecs) {
  if (MOVIES.includes(container) && playsPcmInMovies() && codecs.some(isPcm)) return plays(container, codecs.filter((codec) => !isPcm(codec)));
  const types = [container, ALSO[container]].filter(Boolean).map((one) => `${one}; codecs="${codecs.join(", ")}"`);
  if (OF_ONE_CODEC.includes(container) || (container === "audio/wav" && WAVE.includes(codecs[0]))) types.push(container);
  return types.some((type) => element.canPlayType(type) !== "");
}

const named = (item, chosen) => [...new Set(codecNames(item).filter((_, index) => chosen[index]))].join(" and ");

function explain(item, refused) {
  const ending = item.path.match(/\.([^.]+)$/)?.[1].toUpperCase() ?? "such";
  return refused.includes(true) ? `this browser says that it doesn't play ${named(item, refused)}`
    : `this browser says that it doesn't play ${ending} files of this kind`;
}
