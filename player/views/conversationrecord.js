// What this browser keeps of a conversation with a relay: a record for each question with its answer. Windows that write
// at the same time write different records, or the same answer, of which the one that is further stays.

import { forget, keep, keptKeys, recall } from "../storage.js";

const PREFIX = "conversation/";
/** Of all conversations of this browser; the oldest go first. */
const MOST_TURNS = 200;
const MOST_CHARACTERS = 1_000_000;
/** Of a name, an address, or a reason; texts are bounded by who writes them. */
const MOST_NAME = 300;
/** A question that nobody asks any more: its window was closed. */
const ASKED_MS = 60_000;

export class ConversationRecord {
  #prefix;
  /**
   * In their order: {id, question, model, content, state, said}; the state is "asking", "open", or how the answer ended.
   * Of an open one `place` is the address of its channel, `token` reads that channel alone, and `last` is the id of the
   * last event that `content` has: both only ever change together, so that no token is lost or doubled.
   */
  turns = [];

  /** @param relay its name, which has no slash */
  constructor(relay) {
    this.#prefix = `${PREFIX}${relay}/`;
    this.load();
  }

  /** Reads what is kept. */
  load() {
    this.turns = keptKeys(this.#prefix).map(({ key }) => this.#read(key)).filter(Boolean);
  }

  /** Takes over what another window has changed under a key, null being all keys. Returns whether it is of this conversation. */
  follow(key) {
    if (key === null) {
      this.turns = [];
      return true;
    }
    if (!key.startsWith(this.#prefix)) return false;
    const id = key.slice(this.#prefix.length);
    const index = this.turns.findIndex((one) => one.id === id);
    const stored = this.#read(key);
    const own = this.turns[index];
    if (!stored && own) this.turns.splice(index, 1);
    else if (stored && !own) this.turns = [...this.turns, stored].sort((one, other) => (one.id < other.id ? -1 : 1));
    // An answer that this window reads itself goes on from where it is here.
    else if (stored && own.state !== "open" && isFurther(stored, own)) Object.assign(own, stored);
    else if (stored && isOver(stored) && stored.state !== "gone") this.#close(Object.assign(own, stored));
    return true;
  }

  get open() {
    return this.turns.filter(({ state }) => state === "open");
  }

  get model() {
    return this.turns.at(-1)?.model ?? "";
  }

  /** What a request for an answer to a further question has of the conversation: questions have answers there. */
  messagesWith(question) {
    const before = this.turns.filter(({ content }) => content);
    const said = before.flatMap((one) => [{ role: "user", content: one.question }, { role: "assistant", content: one.content }]);
    return [...said, { role: "user", content: question }];
  }

  /** Adds a question that is being asked. */
  add(question, model) {
    const now = Math.max(Date.now(), askedAt(this.turns.at(-1)) + 1);
    const id = `${now.toString(36).padStart(9, "0")}-${Math.random().toString(36).slice(2, 10)}`;
    const turn = { id, question, model, content: "", state: "asking", said: "" };
    this.turns.push(turn);
    this.save(turn);
    this.#trim();
    return turn;
  }

  begin(turn, place, token) {
    this.save(Object.assign(turn, { place, token, last: "", state: "open" }));
  }

  finish(turn, state, said) {
    this.#close(Object.assign(turn, { state, said }));
    this.save(turn);
  }

  remove(turn) {
    this.turns = this.turns.filter((one) => one !== turn);
    forget(this.#prefix + turn.id);
  }

  clear() {
    for (const { key } of keptKeys(this.#prefix)) forget(key);
    this.turns = [];
  }

  /** Keeps a turn, unless another window is further with it or has forgotten it. */
  save(turn) {
    const key = this.#prefix + turn.id;
    const stored = recall(key, null);
    if (stored ? isFurther(stored, turn) : turn.isKept) return;
    turn.isKept = keep(key, { ...turn, isKept: true });
  }

  /** What opens an answer isn't kept longer than it is read. */
  #close(turn) {
    delete turn.place;
    delete turn.token;
    delete turn.last;
  }

  #read(key) {
    const found = recall(key, null);
    const texts = [found?.question, found?.content, found?.state, found?.model];
    if (!texts.every((one) => typeof one === "string")) return null;
    const turn = { ...found, id: key.slice(this.#prefix.length), isKept: true };
    const isLeft = turn.state === "asking" && Date.now() - askedAt(turn) > ASKED_MS;
    return isLeft ? Object.assign(turn, { state: "left", said: "No answer came." }) : turn;
  }

  #trim() {
    const kept = keptKeys(PREFIX).sort((one, other) => (idOf(one.key) < idOf(other.key) ? -1 : 1));
    let room = MOST_CHARACTERS;
    kept.reverse().forEach(({ key, size }, index) => {
      room -= size;
      if (index === 0 || (index < MOST_TURNS && room > 0)) return;
      forget(key);
      this.turns = this.turns.filter(({ id }) => this.#prefix + id !== key);
    });
    this.turns = this.turns.slice(-MOST_TURNS);
  }
}

/** A reason, or a name, as it is kept. */
export const short = (text) => String(text ?? "").slice(0, MOST_NAME);

const idOf = (key) => key.slice(key.lastIndexOf("/") + 1);
const askedAt = (turn) => parseInt(turn?.id ?? "", 36) || 0;
const isOver = ({ state }) => state !== "asking" && state !== "open";

/** How far an answer is: what a window lost sight of is less than how another one saw it end. */
const rank = ({ state }) => ({ asking: 0, open: 1, gone: 2 })[state] ?? 3;

function isFurther(one, other) {
  const by = rank(one) - rank(other);
  return by > 0 || (by === 0 && one.content.length > other.content.length);
}
