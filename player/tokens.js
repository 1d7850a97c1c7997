// The texts that event channels carry in pieces: events of type "token", and what OpenAI-compatible servers stream.

const MOST_CHARACTERS = 20_000;

/** Gives the text that an event carries on: a string, maybe empty; `END` behind the last piece; null for other events. */
export const END = Symbol("the end of a text");

export function pieceOf({ event, data }) {
  if (event === "token") return data;
  if (event === "token-end" || data === "[DONE]") return END;
  if (!data.startsWith("{") || !data.includes('"choices"')) return null;
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    return null;
  }
  if (!Array.isArray(chunk.choices)) return null;
  const [choice] = chunk.choices;
  const text = choice?.delta?.content ?? choice?.text ?? "";
  return typeof text === "string" ? text : null;
}

/** A text that is being written; the next one takes its place. */
export class TypedText {
  #text = "";
  #isOver = false;
  pieces = 0;

  get text() {
    return this.#text;
  }

  /** Whether more of it may come. */
  get isOpen() {
    return this.pieces > 0 && !this.#isOver;
  }

  add(piece) {
    if (piece === END) {
      this.#isOver = true;
      return;
    }
    if (this.#isOver) this.clear();
    this.pieces += 1;
    this.#text = (this.#text + piece).slice(-MOST_CHARACTERS);
  }

  clear() {
    this.#text = "";
    this.#isOver = false;
    this.pieces = 0;
  }
}
