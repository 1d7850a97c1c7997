// When to try again: a little later each time, with jitter, so that a restarted server isn't stormed.

const FIRST_MS = 400;
const LONGEST_MS = 5000;
const MOST_MS = 20 * 60 * 1000;
const MOST_TIMES = 4;

export class Retry {
  #timer = 0;
  #action = null;
  #longestMs;
  attempts = 0;

  /** @param longestMs the longest wait, on average */
  constructor(longestMs = LONGEST_MS) {
    this.#longestMs = longestMs;
  }

  get pending() {
    return this.#timer !== 0;
  }

  /** Runs `action` after the next wait; false when it has been tried often enough. */
  later(action) {
    if (this.pending) return true;
    if (this.attempts >= MOST_MS / this.#longestMs) return false;
    const wait = Math.min(FIRST_MS * 2 ** this.attempts, this.#longestMs) * (0.75 + Math.random() / 2);
    this.attempts += 1;
    this.#action = action;
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      action();
    }, wait);
    return true;
  }

  /** Runs what waits at once, since it should succeed now; further waits are short again. */
  now() {
    const action = this.pending ? this.#action : null;
    this.reset();
    action?.();
  }

  reset() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#action = null;
    this.attempts = 0;
  }
}

/**
 * Calls `stuck` when a media element should move on and hasn't for `limitMs`; `moved` whenever it plays.
 *
 * A new attempt begins anew, which takes its time on a slow line: each limit in a row is twice the one before.
 */
export class Progress {
  #last = -1;
  #since = 0;
  #times = 1;
  #soonMs = 0;

  check(media, limitMs, { moved, stuck }) {
    const now = performance.now();
    if (media.paused || media.ended) {
      this.#since = now;
    } else if (media.currentTime !== this.#last) {
      this.#last = media.currentTime;
      this.#since = now;
      // To be sent to a place isn't to have something to play there.
      if (media.readyState <= HTMLMediaElement.HAVE_CURRENT_DATA) return;
      this.#times = 1;
      this.#soonMs = 0;
      moved();
    } else if (now - this.#since > (this.#soonMs || limitMs * this.#times)) {
      this.#since = now;
      if (this.#soonMs) this.#soonMs = 0;
      else this.#times = Math.min(2 * this.#times, MOST_TIMES);
      stuck();
    }
  }

  /** Begins with something else, which has the first limit. */
  reset() {
    this.#times = 1;
    this.#soonMs = 0;
  }

  /** Expects that the element moves on soon, since now there is something to play: once with this limit, then with the usual ones. */
  expect(limitMs) {
    this.reset();
    this.#soonMs = limitMs;
    this.#since = performance.now();
  }
}
