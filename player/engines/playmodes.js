// The ways in which an item can be played: by which engine, and at which of the item's addresses.

import { HlsEngine } from "./hlsengine.js";
import { NativeEngine } from "./nativeengine.js";
import { ShakaEngine } from "./shakaengine.js";

/** In the order in which they are offered. */
export const MODES = {
  file: "Browser, whole file",
  hls: "hls.js, HLS",
  dash: "Shaka Player, DASH",
  native: "Browser, HLS",
};

/** A manifest of DASH lies beside each playlist, unless the list of items says otherwise. */
const dashOf = ({ hls, dash }) => (dash === undefined ? hls?.replace(/master\.m3u8$/, "manifest.mpd") : dash);

/** The item's addresses by mode, of those that this browser knows; `item` has media, hls and dash, where there are any. */
export function addressesOf(item) {
  const all = {
    file: item.media,
    hls: (HlsEngine.isSupported() || NativeEngine.playsHls()) && item.hls,
    dash: ShakaEngine.isSupported() && dashOf(item),
    native: HlsEngine.isSupported() && NativeEngine.playsHls() && item.hls,
  };
  return Object.fromEntries(Object.entries(all).filter(([, address]) => address));
}
