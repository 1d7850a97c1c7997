// Players whose token has a name, and an end to each of them: for the administrator, where the server counts them.

import { count, countsViewers, el, getList, say, send, syncRows } from "../dom.js";

/** Pause between two looks at the list while it is shown. */
const PERIOD_MS = 5000;

/** Most players in the list; the server names more. */
const MOST_ROWS = 50;

export class NamedViewers {
  #node;
  #rows = new Map();
  #heading = el("h3", {});
  #list = el("ul");
  #said = el("p", { class: "quiet", role: "status" });
  #timer = 0;
  #isShown = false;

  /** @param node an element to be filled, and hidden where the server doesn't count players */
  constructor(node) {
    this.#node = node;
    node.append(this.#heading, this.#list, this.#said);
  }

  /** Shows the list and keeps it up to date, or hides it. */
  show(isShown) {
    this.#isShown = isShown;
    this.#node.hidden = true;
    say(this.#said, "");
    clearTimeout(this.#timer);
    if (isShown && countsViewers()) this.#refresh();
  }

  async #refresh() {
    clearTimeout(this.#timer);
    try {
      const { sessions } = await getList("/api/viewers");
      if (this.#isShown) this.#update(sessions);
    } catch {
      // The page's own lists tell of it: this list stays as it was.
    }
    if (!this.#isShown) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#refresh(), PERIOD_MS);
  }

  #update(sessions) {
    this.#node.hidden = false;
    say(this.#heading, `Watching with a name: ${sessions.length ? count(sessions.length, "player", "players") : "nobody"}`);
    syncRows(this.#list, this.#rows, sessions.slice(0, MOST_ROWS), ({ id }) => id, (session) => this.#row(session));
  }

  #row({ id, name, address, user_agent: agent, started }) {
    const end = el("button", { class: "plain", type: "button", "aria-label": `End ${name} at ${address}`, click: () => this.#end(name, id) }, "End");
    const since = new Date(started * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const facts = el("span", { class: "quiet", title: agent }, `${address}, since ${since}`);
    return { node: el("li", {}, el("b", {}, name), facts, end), update() {} };
  }

  async #end(name, id) {
    try {
      await send(`/api/viewers/${encodeURIComponent(name)}?session=${encodeURIComponent(id)}`, "DELETE");
      say(this.#said, `${name} was ended, and is refused with this player from now on.`);
    } catch (error) {
      say(this.#said, error.status === 404 ? `${name} had gone already.` : error.reason || "The server doesn't answer.");
    }
    this.#refresh();
  }
}
