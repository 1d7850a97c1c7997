// Where the small pictures of a film are: its WebVTT names places in larger pictures (sprites).

const CUE = /([\d:.]+) --> ([\d:.]+)\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)/g;

const MOST_ATTEMPTS = 5;
const LONGEST_WAIT_S = 10;

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
    end: end.split(":").reduce((sum, part) => sum * 60 + Number(part), 0),
    sprite: new URL(sprite, new URL(address, location.href)).href,
    place: place.map(Number),
  }));
}
