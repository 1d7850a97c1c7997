// When to try again: a little later each time, with jitter, so that a restarted server isn't stormed.

const FIRST_MS = 400;
const LONGEST_MS = 5000;
const MOST_ATTEMPTS = 240; // about twenty minutes

export class Retry {
  #timer = 0;
  attempts = 0;

  get pending() {
    return this.#timer !== 0;
  }

  /** Runs `action` after the next wait; false when it has been tried often enough. */
  later(action) {
    if (this.pending) return true;
    if (this.attempts >= MOST_ATTEMPTS) return false;
    const wait = Math.min(FIRST_MS * 2 ** this.attempts, LONGEST_MS) * (0.75 + Math.random() / 2);
    this.attempts += 1;
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      action();
    }, wait);
    return true;
  }

  reset() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.attempts = 0;
  }
}

/** Calls `stuck` when a media element should move on and hasn't for `limitMs`; `moved` whenever it has. */
export class Progress {
  #last = -1;
  #since = 0;

  check(media, limitMs, { moved, stuck }) {
    const now = performance.now();
    if (media.paused || media.ended) {
      this.#since = now;
    } else if (media.currentTime !== this.#last) {
      this.#last = media.currentTime;
      this.#since = now;
      moved();
    } else if (now - this.#since > limitMs) {
      this.#since = now;
      stuck();
    }
  }
}
