// Where small pictures are: of a film, whose WebVTT names places in larger pictures (sprites), and of a channel's past.

import { secondsOf } from "../dom.js";

const CUE = /([\d:.]+) --> ([\d:.]+)\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)/g;

const MOST_ATTEMPTS = 5;
const LONGEST_WAIT_S = 10;

/** A pointer that rests so long on a bar wants to see what was there. */
export const REST_MS = 150;

export const PAST_WIDTH = 192;
/** Pictures of all who point near to a moment are those of one multiple of so many seconds. */
const PAST_STEP_S = 10;

/** Address of the small picture of a channel's moment, in seconds since 1970; the channel is an item of the list. */
export function pastPicture({ hls, available_from: from }, seconds) {
  const at = Math.max(Math.floor(seconds / PAST_STEP_S) * PAST_STEP_S, from ?? 0);
  const query = new URLSearchParams({ at, width: PAST_WIDTH });
  return `${hls.replace(/master\.m3u8.*$/, "snapshot.jpg")}?${query}`;
}

/** Fetches something that the server may have no time for now (503): then again when it says. */
async function fetchPatiently(address, signal) {
  for (let attempt = 1; ; attempt += 1) {
    const answer = await fetch(address, { signal }).catch(() => null);
    if (answer?.status !== 503 || attempt === MOST_ATTEMPTS) return answer;
    const seconds = Math.min(Number(answer.headers.get("retry-after")) || 1, LONGEST_WAIT_S);
    await new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });
    if (signal?.aborted) return null;
  }
}

/**
 * Fetches the places of a film's small pictures, which are made only when somebody first asks for one.
 * @returns [{end (s), sprite (address), place: [x, y, width, height]}], in order of time; [] without any,
 *   null where that can't be told now
 */
export async function fetchThumbnails(address, signal = undefined) {
  const answer = await fetchPatiently(address, signal);
  if (!answer || answer.status === 503) return null;
  const text = answer.ok ? await answer.text().catch(() => "") : "";
  return [...text.matchAll(CUE)].map(([, , end, sprite, ...place]) => ({
    end: secondsOf(end),
    sprite: new URL(sprite, new URL(address, location.href)).href,
    place: place.map(Number),
  }));
}
