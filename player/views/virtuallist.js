// A list of any length of which only the rows near the visible ones exist, and only the items near them are loaded.

import { el } from "../dom.js";

const BLOCK = 100;
const MOST_BLOCKS = 20;
const AT_ONCE = 2;
const ROWS_BEYOND = 6;

export class VirtualList {
  #list;
  #fetch;
  #make;
  #blocks = new Map();
  #loading = new Map();
  #rows = new Map();
  #frame = 0;
  #rowHeight = 0;
  #columns = 1;
  #query = 0;
  total = 0;

  /**
   * @param list the element whose rows these are; it is as high as all of them together
   * @param fetch called with offset and limit; gives a promise of {items, total, offset}
   * @param make gives a row: {node, update(item or null)}
   */
  constructor(list, fetch, make) {
    this.#list = list;
    this.#fetch = fetch;
    this.#make = make;
    const later = () => this.#later();
    document.addEventListener("scroll", later, { capture: true, passive: true });
    new ResizeObserver(later).observe(list);
    addEventListener("resize", later, { passive: true });
  }

  /**
   * Loads items: those that are visible and one more that `also` is true of, or of another list (`anew`) the first
   * ones, or those around an item.
   */
  async reload({ anew = false, around = undefined, also = () => false } = {}) {
    if (anew) this.#query += 1;
    const query = this.#query;
    const needed = anew ? [0] : [...new Set([...this.#neededBlocks(), ...this.#blocksWith(also)])];
    const pages = await Promise.all(around !== undefined
      ? [this.#fetch({ around, limit: BLOCK })]
      : needed.map((block) => this.#fetch({ offset: block * BLOCK, limit: BLOCK })));
    if (query !== this.#query) return null;
    return { anew, pages };
  }

  /** Shows what `reload` gave. */
  show({ anew, pages }) {
    if (anew) {
      this.#blocks.clear();
      for (const row of this.#rows.values()) row.node.remove();
      this.#rows.clear();
    }
    for (const page of pages) this.#take(page);
    const first = pages[0]?.offset ?? 0;
    if (anew && first === 0) this.#scroller?.scrollTo({ top: 0 });
    this.#render();
  }

  find(belongs) {
    for (const items of this.#blocks.values()) {
      const found = items.find(belongs);
      if (found) return found;
    }
    return undefined;
  }

  /** The items of the rows that exist. */
  get shown() {
    return [...this.#rows.keys()].map((index) => this.#item(index)).filter(Boolean);
  }

  /** Brings an item's row into view, within the list's own scrolling box. */
  scrollTo(belongs) {
    const box = this.#scroller;
    if (!box) return;
    for (const [block, items] of this.#blocks) {
      const place = items.findIndex(belongs);
      if (place < 0) continue;
      const top = Math.floor((block * BLOCK + place) / this.#columns) * this.#rowHeight;
      const isVisible = top >= box.scrollTop && top + this.#rowHeight <= box.scrollTop + box.clientHeight;
      if (!isVisible) box.scrollTop = top - (box.clientHeight - this.#rowHeight) / 2;
      this.#render();
      return;
    }
  }

  /** Moves the focus from a row to another one. */
  moveFocus(step) {
    const now = [...this.#rows].find(([, row]) => row.node.contains(document.activeElement));
    if (!now) return false;
    const index = now[0] + step * (Math.abs(step) > 1 ? 1 : this.#columns);
    const next = this.#rows.get(Math.min(Math.max(index, 0), this.total - 1));
    const target = next?.node.querySelector("a");
    target?.focus({ preventScroll: true });
    target?.scrollIntoView({ block: "nearest" });
    return Boolean(target);
  }

  get #scroller() {
    const box = this.#list.parentElement;
    return box.scrollHeight > box.clientHeight && getComputedStyle(box).overflowY !== "visible" ? box : null;
  }

  #take({ items, total, offset }) {
    this.total = total;
    for (let first = 0; first < Math.max(items.length, 1); first += BLOCK) {
      const block = Math.floor((offset + first) / BLOCK);
      this.#blocks.delete(block);
      this.#blocks.set(block, items.slice(first, first + BLOCK));
    }
    const last = Math.floor(Math.max(total - 1, 0) / BLOCK);
    for (const block of this.#blocks.keys()) if (block > last) this.#blocks.delete(block);
    while (this.#blocks.size > MOST_BLOCKS) this.#blocks.delete(this.#blocks.keys().next().value);
  }

  #item(index) {
    return this.#blocks.get(Math.floor(index / BLOCK))?.[index % BLOCK] ?? null;
  }

  #later() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#render();
    });
  }

  #measure() {
    const style = getComputedStyle(this.#list);
    this.#rowHeight = parseFloat(style.getPropertyValue("--row-height")) * parseFloat(getComputedStyle(document.documentElement).fontSize);
    const least = parseFloat(style.getPropertyValue("--column-width")) * parseFloat(style.fontSize);
    this.#columns = Math.max(1, Math.floor(this.#list.clientWidth / least));
  }

  /** Indexes of the rows that should exist: those in the visible part of the list, and some before and behind. */
  #range() {
    const box = this.#list.getBoundingClientRect();
    const frame = this.#list.parentElement.getBoundingClientRect();
    const from = Math.max(frame.top, 0) - box.top;
    const to = Math.min(frame.bottom, innerHeight) - box.top;
    const first = Math.max(0, Math.floor(from / this.#rowHeight) - ROWS_BEYOND) * this.#columns;
    const behind = Math.max(0, Math.ceil(to / this.#rowHeight) + ROWS_BEYOND) * this.#columns;
    return [Math.min(first, this.total), Math.min(behind, this.total)];
  }

  #blocksWith(belongs) {
    return [...this.#blocks].filter(([, items]) => items.some(belongs)).map(([block]) => block);
  }

  #neededBlocks() {
    const [first, behind] = this.#rowHeight ? this.#range() : [0, 1];
    const blocks = [];
    for (let block = Math.floor(first / BLOCK); block * BLOCK < Math.max(behind, first + 1); block += 1) blocks.push(block);
    return blocks;
  }

  #render() {
    this.#measure();
    if (!this.#rowHeight || !this.#list.clientWidth) return;
    this.#list.style.height = `${Math.ceil(this.total / this.#columns) * this.#rowHeight}px`;
    const [first, behind] = this.#range();
    for (const [index, row] of this.#rows) {
      const isFar = index < first || index >= behind;
      // The row that has the focus keeps it while others scroll by.
      if (index >= this.total || (isFar && !row.node.contains(document.activeElement))) {
        row.node.remove();
        this.#rows.delete(index);
      }
    }
    const width = 100 / this.#columns;
    for (let index = first; index < behind; index += 1) {
      const row = this.#rows.get(index) ?? this.#add(index);
      row.node.style.transform = `translateY(${Math.floor(index / this.#columns) * this.#rowHeight}px)`;
      row.node.style.width = `${width}%`;
      row.node.style.left = `${(index % this.#columns) * width}%`;
      row.node.setAttribute("aria-setsize", this.total);
      row.update(this.#item(index));
    }
    this.#load();
  }

  #add(index) {
    const row = this.#make();
    row.node.setAttribute("aria-posinset", index + 1);
    this.#rows.set(index, row);
    // In the order of the items, for the Tab key and for screen readers.
    const next = [...this.#rows.keys()].filter((each) => each > index).sort((one, other) => one - other)[0];
    this.#list.insertBefore(row.node, next === undefined ? null : this.#rows.get(next).node);
    return row;
  }

  async #load() {
    const missing = this.#neededBlocks().find((block) => !this.#blocks.has(block) && !this.#loading.has(block));
    if (missing === undefined || this.total === 0 || this.#loading.size >= AT_ONCE) return;
    const query = this.#query;
    this.#loading.set(missing, query);
    const page = await this.#fetch({ offset: missing * BLOCK, limit: BLOCK }).catch(() => null);
    this.#loading.delete(missing);
    // After a failure the page asks again by itself, as it does for the whole list.
    if (page && query === this.#query) this.#take(page);
    if (page) this.#later();
  }
}

/** Makes the list's element and the box that it scrolls in. */
export function makeScroller(label) {
  const list = el("ul", { class: "virtual", "aria-label": label });
  return { list, box: el("div", { class: "scroller" }, list) };
}
