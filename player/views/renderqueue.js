// Shows what arrives at most once a frame, however fast it comes; what waits is bounded.

const MOST_WAITING = 1000;

export class FrameQueue {
  #show;
  #waiting = [];
  #frame = 0;
  skipped = 0;
  renders = 0;

  /** @param show called with all that has come since the frame before */
  constructor(show) {
    this.#show = show;
  }

  get length() {
    return this.#waiting.length;
  }

  push(item) {
    this.#waiting.push(item);
    // A hidden page has no frames: of what comes meanwhile, the newest is kept.
    if (this.#waiting.length > 2 * MOST_WAITING) this.#cut();
    this.#frame ||= requestAnimationFrame(() => this.#render());
  }

  clear() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#waiting = [];
  }

  #cut() {
    this.skipped += this.#waiting.length - MOST_WAITING;
    this.#waiting = this.#waiting.slice(-MOST_WAITING);
  }

  #render() {
    this.#frame = 0;
    if (this.#waiting.length > MOST_WAITING) this.#cut();
    const items = this.#waiting;
    this.#waiting = [];
    this.renders += 1;
    this.#show(items);
  }
}
