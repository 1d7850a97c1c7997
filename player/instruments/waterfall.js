// The newest requests for media as a waterfall: when each was sent, how long the server took to begin, and how long
// the body came. From the browser's own Resource Timing, so that it shows every engine's requests alike.

import { bytes, el, say } from "../dom.js";

const MOST_REQUESTS = 24;
/** Older ones are of no interest, and would make the newer ones thin. */
const SHOWN_MS = 60_000;
/** How much time the width shows at least. */
const LEAST_MS = 2000;
const MEDIA = /^\/(media|vod|live|recordings)\//;

export class Waterfall {
  #observer = null;
  #requests = [];
  #isNew = false;
  #rows = [];
  #list = el("ol", { class: "requests", tabindex: 0, "aria-label": "Requests, the newest last" });
  #span = el("span", { class: "quiet" });

  constructor() {
    this.node = el("div", { class: "instrument" }, el("h3", {}, "Requests ", this.#span), this.#list);
  }

  /** Begins with what the browser has noted before. */
  listen() {
    this.clear();
    this.#observer = new PerformanceObserver((list) => this.#note(list.getEntries()));
    this.#observer.observe({ type: "resource", buffered: true });
  }

  stop() {
    this.#observer?.disconnect();
    this.#observer = null;
  }

  clear() {
    this.#requests = [];
    this.#isNew = true;
  }

  #note(entries) {
    const media = entries.filter((entry) => MEDIA.test(new URL(entry.name).pathname));
    this.#requests = [...this.#requests, ...media].slice(-MOST_REQUESTS);
    this.#isNew ||= media.length > 0;
  }

  draw() {
    if (!this.#isNew) return;
    this.#isNew = false;
    this.#requests = this.#requests.filter((one) => one.startTime > performance.now() - SHOWN_MS);
    const start = Math.min(...this.#requests.map((one) => one.startTime));
    const end = Math.max(start + LEAST_MS, ...this.#requests.map((one) => one.responseEnd));
    const share = (time) => `${((100 * (time - start)) / (end - start)).toFixed(2)}%`;
    while (this.#rows.length > this.#requests.length) this.#rows.pop().node.remove();
    while (this.#rows.length < this.#requests.length) this.#rows.push(makeRow(this.#list));
    this.#requests.forEach((one, index) => {
      const row = this.#rows[index];
      say(row.name, new URL(one.name).pathname.split("/").slice(-2).join("/"));
      // A response whose headers hide its times has none of them.
      const begun = one.responseStart || one.responseEnd;
      Object.assign(row.wait.style, { left: share(one.startTime), width: share(start + begun - one.startTime) });
      Object.assign(row.body.style, { left: share(begun), width: share(start + one.responseEnd - begun) });
      const size = one.encodedBodySize ? `, ${bytes(one.encodedBodySize)}` : "";
      const failed = one.responseStatus >= 400 ? `, ${one.responseStatus}` : "";
      say(row.facts, `${Math.round(one.duration)} ms${size}${failed}`);
      row.node.classList.toggle("failed", one.responseStatus >= 400);
    });
    say(this.#span, this.#requests.length ? `in ${((end - start) / 1000).toFixed(1)} s` : "none yet");
  }
}

function makeRow(list) {
  const row = {
    name: el("span", { class: "name" }),
    wait: el("i", { class: "wait" }),
    body: el("i", { class: "body" }),
    facts: el("span", { class: "quiet" }),
  };
  row.node = el("li", {}, row.name, el("span", { class: "lane", "aria-hidden": "true" }, row.wait, row.body), row.facts);
  list.append(row.node);
  return row;
}
