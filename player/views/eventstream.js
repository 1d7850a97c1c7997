// Reads an event channel as lines of JSON over fetch: EventSource gives only types that it was told of, and reverse
// proxies pass a WebSocket on only where they are told to. Reconnects by itself, and goes on behind the last event.

import { linesOf, refusalOf } from "../refusal.js";
import { Retry } from "../retry.js";

const MOST_LINE_CHARACTERS = 32 << 20;
const OPEN_TIMEOUT_MS = 20_000;
/** The server sends a sign of life every 15 s. */
const SILENT_MS = 45_000;

const REFUSALS = { 401: "closed", 404: "missing", 410: "missing" };

export class EventStream {
  #address;
  #key;
  #on;
  #retry = new Retry();
  #abort = null;
  #lastId = "";
  /** Id of the event behind which it began; else "". */
  since;
  #startedAt = 0;
  #watchdog = 0;
  reconnects = 0;
  firstEventMs = null;

  /**
   * @param address of the channel
   * @param key of a reader, where the channel needs one; else ""
   * @param on {event(object), state(name)}: called with each event, and with "connecting", "open", "waiting" (to
   *   reconnect), "over" (the channel ended), "closed" (a key is needed), "missing" or "lost" (given up); while it waits
   *   also with why the server refuses it, if it does
   * @param since id of the event behind which it begins; else the channel's own choice
   */
  constructor(address, key, on, since = "") {
    this.#address = address;
    this.#key = key;
    this.#on = on;
    this.since = this.#lastId = since;
  }

  get lastId() {
    return this.#lastId;
  }

  /** Connects, and goes on behind the last event that it has had. */
  open() {
    this.close();
    this.#startedAt = performance.now();
    this.#connect();
  }

  close() {
    this.#retry.reset();
    this.#disconnect();
  }

  #disconnect() {
    clearTimeout(this.#watchdog);
    this.#abort?.abort();
    this.#abort = null;
  }

  async #connect() {
    const abort = new AbortController();
    this.#abort = abort;
    this.#on.state("connecting");
    this.#expectWithin(OPEN_TIMEOUT_MS, abort);
    let refused = "";
    let reason = "";
    try {
      const query = this.#key ? `?key=${encodeURIComponent(this.#key)}` : "";
      const headers = { accept: "application/x-ndjson", ...(this.#lastId && { "last-event-id": this.#lastId }) };
      const how = { headers, cache: "no-store", credentials: "omit", signal: abort.signal };
      const response = await fetch(this.#address + query, how);
      if (response.status === 204) refused = "over";
      else if (!response.ok) {
        refused = REFUSALS[response.status] ?? "";
        reason = refusalOf({ status: response.status, lines: await linesOf(response) });
      }
      else await this.#read(response.body, abort);
    } catch {
      // Not reachable, or cut off: it is tried again below.
    }
    if (abort !== this.#abort) return;
    this.#disconnect();
    if (refused) this.#on.state(refused, reason);
    else this.#on.state(this.#retry.later(() => this.#reconnect()) ? "waiting" : "lost", reason);
  }

  #reconnect() {
    this.reconnects += 1;
    this.#connect();
  }

  async #read(body, abort) {
    this.#on.state("open");
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      this.#expectWithin(SILENT_MS, abort);
      const { done, value } = await reader.read();
      if (done || abort !== this.#abort) return;
      this.#retry.reset();
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      if (rest.length > MOST_LINE_CHARACTERS) throw new Error("a line without end");
      // An empty line is a sign of life.
      for (const line of lines) if (line) this.#take(JSON.parse(line));
    }
  }

  #take(event) {
    this.firstEventMs ??= performance.now() - this.#startedAt;
    this.#lastId = event.id ?? this.#lastId;
    this.#on.event(event);
  }

  /** A connection that died without a word is given up. */
  #expectWithin(milliseconds, abort) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => abort.abort(), milliseconds);
  }
}
