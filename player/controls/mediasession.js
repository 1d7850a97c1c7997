// Media Session: what lock screens show, and what media keys and headphones do, while a station, a film or music plays.

const ARTWORK_PIXELS = 512;
const session = "mediaSession" in navigator ? navigator.mediaSession : null;
let artwork = [];
/** Whose handlers are set, and their names. */
let owner = null;
let names = [];

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

/** Sets the handlers of an owner by their names, such as play and pause; those of another owner are removed. */
export function begin(actions, whose) {
  if (!session) return;
  for (const name of names) handle(name, null);
  for (const [name, action] of Object.entries(actions)) handle(name, action);
  [owner, names] = [whose, Object.keys(actions)];
}

function handle(name, action) {
  try {
    session.setActionHandler(name, action);
  } catch {
    // The browser doesn't know this one.
  }
}

/** @param text of the title: “artist - title”, or whatever the station sends */
export function show(text, station) {
  const [, artist, title] = text.match(/^(.+?) [-–—] (.+)$/) ?? [null, "", text];
  showItem({ title: title || station, artist, album: station });
}

/** @param cover the address of a picture; null for the page's icon */
function showItem({ title, artist, album, cover = null }) {
  if (!session) return;
  session.metadata = new MediaMetadata({
    title, artist: artist ?? "", album: album ?? "", artwork: cover ? [{ src: cover }] : artwork,
  });
}

/** @param state "playing", "paused", or "none", which gives everything back; whose the owner, others are ignored */
export function setState(state, whose) {
  if (!session || owner !== whose) return;
  session.playbackState = state;
  if (state !== "none") return;
  session.metadata = null;
  begin({}, null);
}

/** Joins the session to the video element; `step` plays the item so many places on. */
export function joinPlayback(playback, step) {
  const { video } = playback;
  const seekBy = (seconds) => playback.seekTo(video.currentTime + seconds);
  video.addEventListener("play", () => {
    const { source } = playback;
    if (!source) return;
    begin({
      play: () => playback.play(), pause: () => video.pause(), stop: () => video.pause(),
      ...(source.followed && {
        seekbackward: ({ seekOffset = 10 }) => seekBy(-seekOffset), seekforward: ({ seekOffset = 10 }) => seekBy(seekOffset),
        seekto: ({ seekTime }) => playback.seekTo(seekTime), previoustrack: () => step(-1), nexttrack: () => step(1),
      }),
    }, playback);
    showItem(source.about);
    setState("playing", playback);
  });
  video.addEventListener("pause", () => setState("paused", playback));
  video.addEventListener("emptied", () => !playback.source && setState("none", playback));
  for (const event of ["durationchange", "seeked", "ratechange", "playing"]) {
    video.addEventListener(event, () => owner === playback && showPosition(video));
  }
}

function showPosition({ duration, currentTime, playbackRate }) {
  const isKnown = Number.isFinite(duration) && currentTime <= duration && playbackRate > 0;
  session.setPositionState?.(isKnown ? { duration, position: currentTime, playbackRate } : undefined);
}
