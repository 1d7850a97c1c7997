// The page that other sites show in a frame: plays what its address names, and says so where it can't.
// /embed/vod/PATH, /embed/live/CHANNEL, /embed/live/CHANNEL/recordings/ID, /embed/media/PATH, /embed/radio/NAME; ?autoplay,
// ?muted, ?start=SECONDS, of a channel ?programme=ID, ?start=TIME&end=TIME or ?delay=TIME

import { lookAgain, lookAt, refusalOf, sentence } from "./refusal.js";
import Hls from "./vendor/hls.min.mjs";

/** The wait before another attempt, with jitter, so that a restarted server isn't stormed. */
const againMs = () => 1500 + 1000 * Math.random();
const AHEAD_OF_EDGE_S = 1;
const LOOK_MS = 500;
const SILENT_MS = 4000;
/** A player that has waited so long for a picture while the channel is on air, as in front of a gap, begins anew. */
const STUCK_MS = 8000;

// The token of a signed address stands before the rest, and media are behind it, too.
const [, token, kind, path] = location.pathname.match(/^((?:\/t\/[^/]+)?)\/embed\/([^/]+)\/(.*)$/);
const query = new URLSearchParams(location.search);
const status = document.getElementById("status");

const media = document.createElement(kind === "radio" ? "audio" : "video");
media.controls = true;
media.playsInline = true;
media.autoplay = query.has("autoplay");
media.muted = query.has("muted");
document.getElementById("main").append(media);
try {
  document.title = decodeURIComponent(path);
} catch {
  // Malformed percent-encoding: nothing has such a name, which is said below.
}
// For who looks from outside: tests, and people with a console.
window.headwater = { media };

function say(text) {
  status.textContent = text;
  status.hidden = text === "";
}

media.addEventListener("playing", () => say(""));

const LOST = "The server doesn't answer. This goes on trying.";
const OFF_AIR = "Nothing is on air at the moment.";

function startAt(seconds) {
  if (seconds > 0) media.addEventListener("loadedmetadata", () => (media.currentTime = seconds), { once: true });
}

function playFile(address) {
  let known = false;
  startAt(Number(query.get("start")));
  media.src = address;
  media.addEventListener("loadedmetadata", () => { known = true; });
  media.addEventListener("error", async () => {
    const refusal = refusalOf(await lookAt(address));
    // An item that could be played before can't be reached, whatever the error says: the server may be away.
    say(refusal || (known ? LOST : "This can't be played here."));
    if (known && !refusal) setTimeout(() => again(address), againMs());
  });
}

/** Loads a file anew, and goes on where it was. */
function again(address) {
  const goesOn = !media.paused;
  startAt(media.currentTime);
  media.src = address;
  if (goesOn) media.play().catch(() => {});
}

/** Radio and live channels come back by themselves: a source may be gone for a while. */
function playStation(address) {
  let isWanted = media.autoplay;
  const begin = () => (media.src = `${address}?${Date.now()}`);
  const again = async () => {
    say(refusalOf(await lookAt(address)) || OFF_AIR);
    setTimeout(() => {
      begin();
      if (isWanted) media.play().catch(() => {});
    }, againMs());
  };
  media.addEventListener("play", () => { isWanted = true; });
  media.addEventListener("pause", () => { isWanted &&= media.ended || media.error !== null; });
  media.addEventListener("error", again);
  // The server's end of it: what came until then was played.
  media.addEventListener("ended", again);
  // A page that doesn't play has no listener.
  if (!media.autoplay) media.preload = "none";
  begin();
}

function playHls(address, isLive, start = Number(query.get("start"))) {
  if (!Hls.isSupported()) {
    playFile(address);
    return;
  }
  const hls = new Hls({ lowLatencyMode: isLive, startPosition: !isLive && start > 0 ? start : -1 });
  hls.on(Hls.Events.ERROR, async (_, data) => {
    if (!data.fatal) return;
    if (isLive) hls.destroy();
    const found = await lookAgain(data.response?.code, address);
    if (!isLive) {
      recover(hls, address, data, found);
      return;
    }
    if (data.details === Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR) {
      say("This can't be played here.");
      return;
    }
    say(refusalOf(found) || OFF_AIR);
    setTimeout(() => playHls(address, isLive), againMs());
  });
  hls.loadSource(address);
  hls.attachMedia(media);
  if (isLive) watch(hls, () => playHls(address, isLive));
}

/** Goes on with a film where it was, once its server is back, or the film that has taken its place is there. */
function recover(hls, address, { type, response }, found) {
  const isGone = response?.code === 404;
  const refusal = refusalOf(found);
  if (type !== Hls.ErrorTypes.NETWORK_ERROR) say("This can't be played here.");
  else if (refusal) say(refusal);
  else if (isGone && !hls.levels?.length) say(sentence(found.lines[0] ?? "") || "There is no such film.");
  else {
    say(LOST);
    hls.once(Hls.Events.FRAG_LOADED, () => say(""));
    setTimeout(() => {
      if (hls.levels?.length && !isGone) {
        hls.startLoad();
        return;
      }
      const goesOn = !media.paused;
      const at = media.currentTime;
      hls.destroy();
      playHls(address, false, at || undefined);
      if (goesOn) media.play().catch(() => {});
    }, againMs());
  }
}

/** A source that goes leaves gaps in the playlists, and no error: after a while without a picture that is said. */
function watch(hls, beginAnew) {
  let without = 0;
  let waiting = 0;
  const timer = setInterval(() => {
    if (!hls.media) clearInterval(timer);
    without = media.readyState < HTMLMediaElement.HAVE_FUTURE_DATA ? without + 1 : 0;
    // A restart of the server has put the edge before what was shown: hls.js would wait for it there.
    const isAhead = without && hls.latestLevelDetails?.edge + AHEAD_OF_EDGE_S < media.currentTime;
    const isOnAir = hls.latestLevelDetails?.fragments.at(-1)?.gap === false;
    waiting = without && isOnAir ? waiting + 1 : 0;
    if (hls.media && (isAhead || waiting * LOOK_MS > STUCK_MS)) {
      clearInterval(timer);
      hls.destroy();
      beginAnew();
      return;
    }
    if (without * LOOK_MS > SILENT_MS) say(OFF_AIR);
    else if (without === 0) say("");
  }, LOOK_MS);
}

/** The playlist of a channel, of a span or a programme of it that the query names, or of a recording, and whether it goes on. */
function ofChannel() {
  const span = new URLSearchParams([...query].filter(([name]) => ["programme", "start", "end", "delay"].includes(name)));
  const isLive = !path.includes("/recordings/") && ![...span.keys()].some((name) => name !== "delay");
  return [`${token}/live/${path}/master.m3u8${span.size ? `?${span}` : ""}`, isLive, 0];
}

switch (kind) {
  case "vod": playHls(`${token}/vod/${path}/master.m3u8`, false); break;
  case "live": playHls(...ofChannel()); break;
  case "media": playFile(`${token}/media/${path}`); break;
  default: playStation(`${token}/radio/${path}`);
}
