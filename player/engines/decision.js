// How an item of the library is played here: decisions made of what the server says of the item, what the browser says of
// itself, and what the viewer asked for.

/**
 * @param item an item of /api/library: kind, playable, reason, content_type, width, hls (its address, null where there is
 *   an obstacle), encoded (whether its HLS has renditions as H.264 and AAC, too)
 * @param browser what the browser plays: {file(container, codecs), segments(kind, codecs), refused(container, codec)},
 *   each true or false, and choosesSounds: whether it offers the sound tracks of a file
 * @returns {{way: "file"|"segments"|"encoded"|null, file: boolean, hls: "segments"|"encoded"|null, refused: boolean[], unheard: boolean[]}}
 *   the best way, null for none; whether the file can be played as it is; what of its HLS can be played; which of its
 *   codecs the browser doesn't decode; and which are of sounds that can't be heard in any way
 */
export function decide(item, browser) {
  const { container, pictures, sounds } = partsOf(item);
  // Without ffprobe, and before a file was looked into, nobody knows the codecs: the browser finds out by playing.
  const isUnknown = item.playable === null || (!item.content_type && item.playable);
  // A player needs the picture, and one of the sounds.
  const choices = (sounds.length ? sounds.map((sound) => [sound]) : [[]]).map((sound) => [...pictures, ...sound]);
  const kind = container.startsWith("audio/") ? "audio" : "video";
  const copied = choices.map((choice) => Boolean(item.content_type) && browser.segments(kind, choice));
  const isCopied = Boolean(item.hls) && (isUnknown ? item.playable === true : copied.includes(true));
  const hls = isCopied ? "segments" : item.hls && item.encoded ? "encoded" : null;
  const whole = choices.map((choice) => container !== "" && browser.file(container, choice));
  const file = isUnknown || whole.includes(true);
  // In segments are all sounds that are decoded here, and the others encoded; of a file most browsers play one alone.
  const segmented = copied.map((isDecoded) => isDecoded || Boolean(item.encoded));
  const fromFile = browser.choosesSounds ? whole.filter(Boolean).length : 1;
  const offersMore = item.kind === "title" || segmented.filter(Boolean).length > fromFile;
  const way = file && !(isCopied && offersMore) ? "file" : hls;
  const refused = [...pictures, ...sounds].map((codec) => browser.refused(container, codec));
  const isUnheard = sounds.map((_, index) => !isUnknown && !whole[index] && !(hls && segmented[index]));
  const unheard = [...pictures.map(() => false), ...isUnheard];
  return { way, file, hls, refused, unheard };
}

/**
 * Chooses the address at which an item is played.
 * @param addresses the item's by mode, the best first
 * @param wanted the mode that was asked for
 * @param burnable subtitles that can be in the picture, each with a number
 * @param burn the number of those that were asked for, as the page's address has it
 * @returns {{mode: string, burned: number, url: string}} burned is 0 where no subtitles are in the picture
 */
export function choose(addresses, wanted, burnable, burn) {
  const { number: burned = 0 } = burnable.find(({ number }) => String(number) === burn) ?? {};
  // The file itself has none in its picture.
  const modes = Object.keys(addresses).filter((mode) => !burned || mode !== "file");
  const mode = modes.includes(wanted) ? wanted : modes[0];
  return { mode, burned, url: burned ? `${addresses[mode]}?burn=${burned}` : addresses[mode] };
}

/** Joins the text tracks of what plays with the subtitles that can be in its picture, which come behind them. */
export function joinCaptions({ names, languages, chosen }, burnable, burned) {
  return {
    names: [...names, ...burnable.map(({ name }) => `${name} (in the picture)`)],
    languages: [...languages, ...burnable.map(({ language }) => language ?? "")],
    chosen: burned ? names.length + burnable.findIndex(({ number }) => number === burned) : chosen,
  };
}

/** The container of an item's type, and its codecs, of which the first one is the picture's. */
export function partsOf({ content_type: type, width }) {
  const [, container = "", codecs] = type?.match(/^([^;]+)(?:; codecs="(.*)")?$/) ?? [];
  const all = codecs?.split(", ") ?? [];
  return { container, pictures: all.splice(0, width ? 1 : 0), sounds: all };
}
