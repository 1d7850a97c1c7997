// Live channels: tuned in on arrival, numbers and states kept fresh.

import { byId, count, el, encodePath, say, syncRows } from "./dom.js";

const STATES = { live: "on air", starting: "starting", down: "down: the source will be started again by itself" };

export class LiveView {
  address = "/api/live";
  everyMs = 4000;
  #items = [];
  #rows = new Map();
  #list = el("ul", { class: "rows" });
  #empty = el("p", { class: "empty" }, "No channel is configured. Add a [[live]] section to headwater.toml, or start with --demo.");

  constructor(stage) {
    this.stage = stage;
    byId("panel-live").append(el("h2", {}, "Channels"), this.#list, this.#empty);
  }

  update(items) {
    this.#items = items;
    this.#empty.hidden = items.length > 0;
    syncRows(this.#list, this.#rows, items, (item) => item.name, makeRow);
    const current = items.find((item) => item.name === this.stage.playback.source?.key);
    if (current) say(byId("facts"), describe(current));
  }

  enter(path) {
    if (!path && this.stage.playback.source) return undefined;
    const item = path ? this.#items.find((each) => each.name === path) : this.#items[0];
    for (const [name, row] of this.#rows) row.mark(name === item?.name);
    if (!item) return this.stage.clear(path ? `There is no channel “${path}”.` : "");
    const { source } = this.stage.playback;
    if (source?.mode === "live" && source.key === item.name) return undefined;
    return this.stage.present({
      title: item.name,
      facts: describe(item),
      modes: [],
      source: { key: item.name, mode: "live", url: item.hls, start: 0, buffer: 0, level: -1 },
    }, true);
  }
}

function describe(item) {
  return [
    STATES[item.state] ?? item.state,
    item.renditions?.join(", "),
    item.part_target && `parts of ${Number(item.part_target.toFixed(3))} s`,
    count(item.viewers ?? 0, "viewer", "viewers"),
    item.restarts && `${count(item.restarts, "restart", "restarts")}`,
  ].filter(Boolean).join(" · ");
}

function makeRow(item) {
  const facts = el("span", { class: "quiet" });
  const dot = el("span", { class: "dot", "aria-hidden": "true" });
  const link = el("a", { class: "row", href: `#live/${encodePath(item.name)}` },
    el("span", { class: "name" }, dot, item.name), facts);
  return {
    node: el("li", {}, link),
    mark: (on) => (on ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")),
    update(now) {
      dot.dataset.state = now.state;
      say(facts, describe(now));
    },
  };
}
