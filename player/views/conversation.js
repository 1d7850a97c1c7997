// A conversation with a relay: questions, and answers that come as they are written. Each answer is an event channel, so
// it goes on behind a reload where it was, and other windows of this browser read the same.

import { el, say, syncRows } from "../dom.js";
import { reasonOf } from "../refusal.js";
import { onKept } from "../storage.js";
import { ConversationRecord, short } from "./conversationrecord.js";
import { EventStream } from "./eventstream.js";
import { FrameQueue } from "./renderqueue.js";
import { pieceOf } from "./tokencollector.js";

const ASK_TIMEOUT_MS = 60_000;
const LIST_TIMEOUT_MS = 8000;
const MOST_QUESTION = 100_000;
const MOST_ANSWER = 200_000;
const MOST_MODELS = 100;
/** Answers that are read at once: further ones wait. */
const MOST_READ = 3;
const SAVE_MS = 1000;
/** Characters behind which a text's part ends with the next line. */
const PART = 2000;

const NEEDS_TOKEN = "Type the relay's token, which this page keeps until it is closed or loaded anew.";
const NO_ANSWER = "The server doesn't answer.";
const WRONG_TOKEN = "That isn't the token of this relay.";
const BEFORE_ANSWER = "Stopped before an answer came.";
const LEFT = "The page was left before an answer came.";
const TOO_LONG = "The answer is longer than this page shows.";
const ENDS = {
  done: "",
  cancelled: "Stopped.",
  left: "It was stopped, as nobody read it.",
  deleted: "It was deleted.",
  deadline: "It took too long.",
  restart: "The server was restarted, and with it the answer ended.",
  gone: "The rest of this answer is no longer kept.",
};
const STATES = {
  waiting: "The connection was lost. Trying again …",
  lost: "The server doesn't answer. Load this page anew to try once more.",
};

export class Conversation {
  #relay = null;
  #record = null;
  /** By the id of the turn whose answer is read. */
  #streams = new Map();
  #asking = null;
  #isStopping = false;
  /** Tokens by relay, only kept in memory. */
  #tokens = new Map();
  /** The list of models that is being fetched, and why the relay refused that; "" where it didn't. */
  #loading = Promise.resolve();
  #refused = "";
  #savedAt = 0;
  /** Whether the newest is to stay in sight: unless somebody has scrolled back. */
  #isAtEnd = true;
  #rows = new Map();
  #queue = new FrameQueue(() => this.#render());
  #title = el("h2", {});
  #facts = el("p", { class: "quiet" });
  #list = el("ol", { class: "talk", tabindex: 0, "aria-label": "Conversation" });
  #status = el("p", { class: "status", role: "status", "aria-live": "polite", id: "conversation-status" });
  #models = el("datalist", { id: "conversation-models" });
  #model = el("input", { name: "model", list: "conversation-models", autocomplete: "off", maxlength: 256 });
  #token = el("input", { name: "token", type: "password", autocomplete: "current-password" });
  #prompt = el("textarea", { name: "question", rows: 2, maxlength: MOST_QUESTION, "aria-label": "Question", "aria-describedby": "conversation-keys", placeholder: "Question" });
  #send = el("button", { class: "edge at-edge", type: "submit" }, "Ask");
  #stop = el("button", { class: "edge", type: "button", hidden: true, click: () => this.#cancel() }, "Stop");
  #clear = el("button", { class: "plain", type: "button", click: () => this.#forget() }, "Clear conversation");
  #form = el("form", { class: "asking" }, this.#prompt,
    el("p", { class: "quiet", id: "conversation-keys" }, "Enter asks, Shift and Enter begin another line."),
    el("div", { class: "controls" },
      el("label", { class: "field" }, "Model", this.#model), this.#models,
      el("label", { class: "field" }, "Relay token", this.#token),
      el("span", { class: "controls" }, this.#stop, this.#send)));
  node = el("div", { class: "stage", hidden: true },
    el("div", { class: "bar" }, el("div", { class: "now" }, this.#title, this.#facts), el("div", { class: "controls" }, this.#clear)),
    this.#list, this.#status, this.#form);

  constructor() {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask();
    });
    this.#prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#ask();
    });
    this.#token.addEventListener("change", () => {
      this.#tokens.set(this.#relay.name, this.#token.value);
      if (this.#isStopping) this.#cancel();
      this.#loading = this.#loadModels();
    });
    this.#list.addEventListener("scroll", () => {
      this.#isAtEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 40;
    });
    new ResizeObserver(() => this.#showEnd()).observe(this.#list);
    onKept((key) => this.#record?.follow(key) && this.#readOpen());
    addEventListener("pagehide", () => {
      if (this.#asking) this.#record?.finish(this.#asking.turn, "unasked", LEFT);
      this.#keepOpen();
    });
  }

  get name() {
    return this.#relay?.name ?? null;
  }

  /** @param relay of the list: {name, url, events} */
  open(relay) {
    if (relay.name === this.name) return;
    this.close();
    this.#relay = relay;
    this.#record = new ConversationRecord(relay.name);
    this.node.hidden = false;
    say(this.#title, relay.name);
    say(this.#facts, relay.events
      ? "Whoever reads this relay's channel sees the answers. Questions and answers stay in this browser until you clear them."
      : "Questions and answers stay in this browser until you clear them.");
    say(this.#status, "");
    this.#isStopping = false;
    this.#isAtEnd = true;
    this.#token.value = this.#tokens.get(relay.name) ?? "";
    this.#model.value = this.#record.model;
    this.#models.replaceChildren();
    this.#list.replaceChildren();
    this.#rows.clear();
    this.#loading = this.#loadModels();
    this.#readOpen();
  }

  /** Reads no more; an answer that is under way is read on when the conversation is opened again. */
  close() {
    this.#keepOpen();
    this.#asking?.abort.abort();
    for (const stream of this.#streams.values()) stream.close();
    this.#streams.clear();
    this.#queue.clear();
    this.#relay = this.#record = null;
    this.node.hidden = true;
  }

  /** For tests and scripts. */
  stats() {
    if (!this.#record) return null;
    return Object.freeze({
      turns: this.#record.turns.map(({ question, content, state }) => ({ question, content, state })),
      lastIds: this.#record.open.map(({ last }) => last),
      resumed: [...this.#streams.values()].map(({ since }) => since),
      renders: this.#queue.renders,
    });
  }

  /** Keeps what has come since the last time that it was kept, as the page is left. */
  #keepOpen() {
    for (const turn of this.#record?.open ?? []) this.#record.save(turn);
  }

  #forget() {
    this.#record.clear();
    say(this.#status, "");
    this.#readOpen();
    this.#prompt.focus();
  }

  #headers() {
    return { accept: "application/json", authorization: `Bearer ${this.#token.value}`, "content-type": "application/json" };
  }

  /** Asks the relay for something. Throws an error with the sentence that says why there is nothing. */
  async #fetch(path, how) {
    const response = await fetch(this.#relay.url + path, { headers: this.#headers(), cache: "no-store", credentials: "omit", ...how })
      .catch(() => { throw new Error(NO_ANSWER); });
    if (response.ok) return response;
    const reason = `The server says: ${(await reasonOf(response)) || response.status}`;
    throw Object.assign(new Error(response.status === 401 ? `${WRONG_TOKEN} ${reason}` : reason), { status: response.status });
  }

  /** Whether these fields are filled in; asks for what is missing. */
  #isReady(...fields) {
    const wanting = fields.find((field) => !field.value);
    if (!wanting) return true;
    say(this.#status, wanting === this.#token ? NEEDS_TOKEN : this.#refused || "Type which model is to answer.");
    (this.#refused ? this.#token : wanting).focus();
    return false;
  }

  async #ask() {
    const question = this.#prompt.value.trim();
    const record = this.#record;
    if (!question || this.#asking || record.open.length > 0 || !this.#isReady(this.#token)) return;
    // A token that was just typed may be wrong, which the list of models says.
    if (!this.#model.value) await this.#loading;
    if (record !== this.#record || this.#asking || !this.#isReady(this.#model)) return;
    const messages = record.messagesWith(question);
    const turn = record.add(question, this.#model.value);
    const abort = new AbortController();
    this.#asking = { turn, abort };
    this.#prompt.value = "";
    this.#isAtEnd = true;
    say(this.#status, "");
    this.#queue.push(null);
    const timer = setTimeout(() => abort.abort(), ASK_TIMEOUT_MS);
    try {
      const body = JSON.stringify({ model: turn.model, messages, stream: true });
      const response = await this.#fetch("/chat/completions", { method: "POST", body, signal: abort.signal });
      const place = response.headers.get("location");
      if (!place?.startsWith("/events/")) throw new Error("This server keeps no answers.");
      this.#asking = null;
      record.begin(turn, place, response.headers.get("x-read-token") ?? "");
      // The request stays until the answer's channel is read, so that the answer has a reader throughout.
      this.#readOpen(() => abort.abort());
    } catch (error) {
      // What wasn't answered can be asked again.
      this.#prompt.value ||= question;
      abort.abort();
      if (turn.state === "asking") record.remove(turn);
      this.#asking = null;
      if (record !== this.#record) return;
      say(this.#status, this.#isStopping ? BEFORE_ANSWER : error.message);
      this.#isStopping = false;
      this.#queue.push(null);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Reads the answers that are under way, each behind what there is of it; and shows the conversation. */
  #readOpen(onOpen = () => {}) {
    const { open } = this.#record;
    for (const [id, stream] of this.#streams) {
      if (open.some((turn) => turn.id === id)) continue;
      stream.close();
      this.#streams.delete(id);
    }
    for (const turn of open.slice(-MOST_READ)) if (!this.#streams.has(turn.id)) this.#read(turn, onOpen);
    this.#model.value ||= this.#record.model;
    this.#queue.push(null);
  }

  #read(turn, onOpen) {
    this.#streams.get(turn.id)?.close();
    const stream = new EventStream(turn.place, turn.token, {
      event: (event) => this.#arrive(turn, event),
      state: (state, reason) => {
        if (state !== "connecting") onOpen();
        if (state !== "connecting") say(this.#status, reason || (STATES[state] ?? ""));
        if (["over", "missing", "closed"].includes(state)) this.#finish(turn, "gone");
      },
    }, turn.last);
    this.#streams.set(turn.id, stream);
    stream.open();
  }

  #arrive(turn, event) {
    if (turn.state !== "open") return;
    if (event.event === "end") {
      this.#finish(turn, String(parsed(event.data).reason ?? "failed"));
      return;
    }
    if (event.event === "reset" && turn.last) {
      // Some events are lost: the answer is read again from its first one.
      turn.content = turn.last = "";
      this.#read(turn, () => {});
      return;
    }
    if (event.event === "error") turn.said = short(parsed(event.data).error?.message);
    // The text grows with its event's id, however seldom the page draws.
    turn.content += pieceOf(event)?.text ?? "";
    turn.last = event.id ?? turn.last;
    this.#queue.push(null);
    if (turn.content.length > MOST_ANSWER) {
      turn.content = turn.content.slice(0, MOST_ANSWER);
      this.#finish(turn, "cut", TOO_LONG);
    }
    const now = performance.now();
    if (now - this.#savedAt < SAVE_MS) return;
    this.#savedAt = now;
    this.#record.save(turn);
  }

  #finish(turn, state, said = ENDS[state] ?? (turn.said ? `The answer broke off: ${turn.said}` : "The answer broke off.")) {
    this.#record.finish(turn, short(state), said);
    this.#isStopping = false;
    say(this.#status, said || "The answer is complete.");
    this.#readOpen();
  }

  /** Stops what is under way; where the page was loaded anew, it needs the token again. */
  async #cancel() {
    this.#isStopping = true;
    this.#asking?.abort.abort();
    const { open } = this.#record;
    if (open.length === 0 || !this.#isReady(this.#token)) return;
    try {
      for (const { place } of open) {
        const identity = place.slice(place.lastIndexOf("/") + 1);
        await this.#fetch(`/chat/completions/${identity}/cancel`, { method: "POST", signal: AbortSignal.timeout(LIST_TIMEOUT_MS) });
      }
    } catch (error) {
      say(this.#status, error.message);
    }
  }

  async #loadModels() {
    const relay = this.#relay;
    this.#refused = "";
    if (!this.#token.value) return;
    try {
      const { data } = await (await this.#fetch("/models", { signal: AbortSignal.timeout(LIST_TIMEOUT_MS) })).json();
      if (relay !== this.#relay) return;
      const names = data.slice(0, MOST_MODELS).map(({ id }) => short(id));
      this.#models.replaceChildren(...names.map((value) => el("option", { value })));
      this.#model.value ||= names[0] ?? "";
    } catch (error) {
      // An upstream server may have no list: a model is named by hand.
      if (![401, 403, 429].includes(error.status) || relay !== this.#relay) return;
      this.#refused = error.message;
      say(this.#status, error.message);
    }
  }

  /** Shows the conversation, once a frame at most. */
  #render() {
    if (!this.#record) return;
    const { turns, open } = this.#record;
    syncRows(this.#list, this.#rows, turns.flatMap(messagesOf), ({ key }) => key, makeMessage);
    this.#list.hidden = turns.length === 0;
    this.#showEnd();
    const isBusy = open.length > 0 || this.#asking !== null;
    this.#stop.hidden = !isBusy;
    this.#send.disabled = isBusy;
    this.#clear.hidden = turns.length === 0;
    this.#clear.disabled = isBusy;
  }

  #showEnd() {
    if (this.#isAtEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }
}

function parsed(data) {
  try {
    return JSON.parse(data) ?? {};
  } catch {
    return {};
  }
}

/** Writes a text that grows, in parts, of which a frame lays out the last one alone. */
function grow(node, shown, text) {
  const isMore = shown !== "" && text.startsWith(shown);
  if (!isMore) node.replaceChildren();
  for (let rest = isMore ? text.slice(shown.length) : text; rest;) {
    let part = node.lastElementChild?.firstChild;
    if (!part || (part.length >= PART && part.data.endsWith("\n"))) {
      part = document.createTextNode("");
      node.append(el("span", { class: "part" }, part));
    }
    const end = rest.indexOf("\n", Math.max(PART - part.length, 0)) + 1 || rest.length;
    part.appendData(rest.slice(0, end));
    rest = rest.slice(end);
  }
}

const messagesOf = ({ id, question, model, content, state, said }) => [
  { key: `${id}/question`, kind: "question", who: "You", text: question },
  { key: `${id}/answer`, kind: "answer", who: model, text: content, isOpen: ["asking", "open"].includes(state), note: ["asking", "open"].includes(state) ? "" : said },
];

function makeMessage({ kind }) {
  const name = el("p", { class: "quiet" });
  const body = el("p", { class: "said", dir: "auto" });
  const note = el("p", { class: "quiet note" });
  let shown = "";
  return {
    node: el("li", { class: kind }, name, body, note),
    update({ who, text, isOpen = false, note: told = "" }) {
      say(name, who);
      if (text !== shown) grow(body, shown, text);
      shown = text;
      body.hidden = !text && !isOpen;
      body.classList.toggle("open", isOpen);
      say(note, told);
      note.hidden = !told;
    },
  };
}
