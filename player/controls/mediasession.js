// Media Session: what lock screens show, and what media keys and headphones do, while a station plays.

const ARTWORK_PIXELS = 512;
const session = "mediaSession" in navigator ? navigator.mediaSession : null;
let artwork = [];

/** Draws the page's icon as a bitmap, which lock screens need. */
const mark = new Image();
mark.addEventListener("load", () => {
  const canvas = document.createElement("canvas");
  canvas.width = ARTWORK_PIXELS;
  canvas.height = ARTWORK_PIXELS;
  canvas.getContext("2d").drawImage(mark, 0, 0, ARTWORK_PIXELS, ARTWORK_PIXELS);
  const src = canvas.toDataURL("image/png");
  artwork = [{ src, sizes: `${ARTWORK_PIXELS}x${ARTWORK_PIXELS}`, type: "image/png" }];
});
mark.src = "/player/icon.svg";

/** Sets the handlers of play, pause and stop. */
export function begin(actions) {
  if (!session) return;
  for (const [name, action] of Object.entries(actions)) session.setActionHandler(name, action);
}

/** @param text of the title: “artist - title”, or whatever the station sends */
export function show(text, station) {
  if (!session) return;
  const [, artist, title] = text.match(/^(.+?) [-–—] (.+)$/) ?? [null, "", text];
  session.metadata = new MediaMetadata({ title: title || station, artist, album: station, artwork });
}

/** @param state "playing", "paused", or "none", which gives everything back */
export function setState(state) {
  if (!session) return;
  session.playbackState = state;
  if (state !== "none") return;
  session.metadata = null;
  for (const name of ["play", "pause", "stop"]) session.setActionHandler(name, null);
}
