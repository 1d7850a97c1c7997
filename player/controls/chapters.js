// The chapters of what plays: a row of marks, each as wide as its chapter is long, that lead to them.

import { byId, clock, el } from "../dom.js";

export class Chapters {
  #address = null;
  #chapters = [];
  #box = byId("chapters");

  constructor(video) {
    this.video = video;
    video.addEventListener("timeupdate", () => this.#mark());
  }

  /** Shows the chapters at an address; none without one. */
  async show(address) {
    if (address === this.#address) return;
    this.#address = address;
    this.#fill([]);
    if (!address) return;
    const answer = await fetch(address).catch(() => null);
    const chapters = answer?.ok ? await answer.json().catch(() => []) : [];
    if (address === this.#address) this.#fill(chapters);
  }

  /** Where chapters begin, in seconds. */
  get starts() {
    return this.#chapters.map((chapter) => chapter["start-time"]);
  }

  /** The name of the chapter at a time; "" where there is none. */
  titleAt(time) {
    return this.#chapters.find((chapter) => isWithin(chapter, time))?.titles[0].title ?? "";
  }

  #fill(chapters) {
    this.#chapters = chapters;
    this.#box.hidden = chapters.length === 0;
    this.#box.replaceChildren(...chapters.map((chapter) => {
      const start = chapter["start-time"];
      const title = chapter.titles[0].title;
      const go = () => { this.video.currentTime = start; };
      const mark = el("button", { type: "button", title: `${clock(start)} ${title}`, click: go }, title);
      const item = el("li", {}, mark);
      item.style.flexGrow = String(Math.max(chapter.duration, 1));
      return item;
    }));
    this.#mark();
  }

  #mark() {
    const time = this.video.currentTime;
    this.#chapters.forEach((chapter, index) => {
      const mark = this.#box.children[index].firstChild;
      if (isWithin(chapter, time)) mark.setAttribute("aria-current", "true");
      else mark.removeAttribute("aria-current");
    });
  }
}

function isWithin(chapter, time) {
  const from = chapter["start-time"];
  return time >= from && time < from + chapter.duration;
}
