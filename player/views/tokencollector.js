// The texts that event channels carry in pieces: events of type "token", and what OpenAI-compatible servers stream.

const MOST_CHARACTERS = 20_000;
const MOST_TEXTS = 16;

/**
 * Returns the piece of a text that an event carries, or null for other events: `key` tells which text of several that
 * come at once, `text` may be empty, and `isEnd` says that nothing follows.
 */
export function pieceOf({ event, data }) {
  if (event === "token") return { key: "", text: data, isEnd: false };
  if (event === "token-end" || data === "[DONE]") return { key: "", text: "", isEnd: true };
  if (!data.startsWith("{") || !data.includes('"choices"')) return null;
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    return null;
  }
  if (!Array.isArray(chunk.choices)) return null;
  // The chunk that tells the usage has no choice.
  const [choice] = chunk.choices;
  const text = (choice?.delta ?? choice?.message)?.content ?? choice?.text ?? "";
  const isEnd = Boolean(choice?.finish_reason);
  return typeof text === "string" ? { key: String(chunk.id ?? ""), text, isEnd } : null;
}

/** Texts that are being written; the one that began last is shown. */
export class TypedTexts {
  #texts = new Map();
  #shown = null;

  get text() {
    return this.#shown?.text ?? "";
  }

  get pieces() {
    return this.#shown?.pieces ?? 0;
  }

  /** Whether more may come of the text that is shown. */
  get isOpen() {
    return this.#shown !== null && !this.#shown.isOver;
  }

  add({ key, text, isEnd }) {
    if (text) {
      const one = this.#openText(key);
      one.text = (one.text + text).slice(-MOST_CHARACTERS);
      one.pieces += 1;
    }
    if (isEnd && this.#texts.has(key)) this.#texts.get(key).isOver = true;
  }

  clear() {
    this.#texts.clear();
    this.#shown = null;
  }

  #openText(key) {
    const known = this.#texts.get(key);
    if (known && !known.isOver) return known;
    this.#texts.delete(key);
    if (this.#texts.size >= MOST_TEXTS) this.#texts.delete(this.#texts.keys().next().value);
    this.#shown = { text: "", pieces: 0, isOver: false };
    this.#texts.set(key, this.#shown);
    return this.#shown;
  }
}
