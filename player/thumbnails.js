// Where the small pictures of a film are: its WebVTT names places in larger pictures (sprites).

const CUE = /([\d:.]+) --> ([\d:.]+)\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)/g;

/**
 * Fetches the places of a film's small pictures, which are made only when somebody first asks for one.
 * @returns [{end (s), sprite (address), place: [x, y, width, height]}], in order of time; [] without any
 */
export async function fetchThumbnails(address, signal = undefined) {
  const answer = await fetch(address, { signal }).catch(() => null);
  const text = answer?.ok ? await answer.text().catch(() => "") : "";
  return [...text.matchAll(CUE)].map(([, , end, sprite, ...place]) => ({
    end: end.split(":").reduce((sum, part) => sum * 60 + Number(part), 0),
    sprite: new URL(sprite, new URL(address, location.href)).href,
    place: place.map(Number),
  }));
}
