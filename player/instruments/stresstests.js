// Exercises for the player: each does something hard to what plays, measures it, and prints its result as JSON.

import { el, getAll, say } from "../dom.js";
import { levelName, read } from "./stats.js";

const LOOK_MS = 50;
const STEP_LIMIT_MS = 60_000;
const SEEKS = 20;
const BURST_SEEKS = 20;
const BURST_EVERY_MS = 20;
/** The end of a film has nothing behind it that could play. */
const LEAST_BEFORE_END_S = 1;
const RESTART_LIMIT_MS = 300_000;
const RESTART_LOOK_MS = 500;
const PLAYED_AFTER_RESTART_S = 10;

const EXERCISES = {
  "seek-storm": { label: "Seek storm", run: seekStorm, fits: () => true },
  staircase: { label: "Staircase of levels", run: staircase, fits: ({ levels }) => levels > 1 },
  "encoder-restart": { label: "Encoder restart", run: encoderRestart, fits: ({ isLive }) => isLive },
};
const UNFIT = {
  staircase: "This has one level: choose something adaptive.",
  "encoder-restart": "Only a live channel has an encoder.",
};

export class Exercises {
  #playback;
  #result = el("pre", { class: "result", id: "exercise-result", tabindex: 0, "aria-label": "Result", hidden: true });
  #said = el("p", { class: "quiet", role: "status" });
  #buttons;

  constructor(playback) {
    this.#playback = playback;
    this.#buttons = Object.entries(EXERCISES).map(([id, { label }]) => (
      el("button", { type: "button", class: "plain", id: `exercise-${id}`, click: () => this.#run(id) }, label)));
    this.node = el("div", { class: "instrument" }, el("h3", {}, "Exercises"),
      el("div", { class: "choices" }, ...this.#buttons), this.#said, this.#result);
  }

  async #run(id) {
    const before = read(this.#playback);
    if (!before.mode) return say(this.#said, "Choose something to play first.");
    if (!EXERCISES[id].fits(before)) return say(this.#said, UNFIT[id]);
    this.#busy(true);
    this.#result.hidden = true;
    say(this.#said, "It runs …");
    const course = new Course(this.#playback, (text) => say(this.#said, text));
    const started = performance.now();
    const outcome = await EXERCISES[id].run(course).catch((error) => ({ error: error.message }));
    const after = read(this.#playback);
    const result = {
      exercise: id, mode: before.mode, url: before.url, browser: navigator.userAgent,
      seconds: rounded((performance.now() - started) / 1000),
      frames: after.decoded - before.decoded, dropped: after.dropped - before.dropped,
      recoveries: after.recoveries - before.recoveries, ...outcome,
    };
    say(this.#result, JSON.stringify(result, null, 1));
    this.#result.hidden = false;
    say(this.#said, outcome.error ? `It didn't go well: ${outcome.error}` : "Done.");
    this.#busy(false);
    return undefined;
  }

  #busy(isBusy) {
    for (const button of this.#buttons) button.disabled = isBusy;
  }
}

/** The playback while an exercise runs; whatever takes too long, or is replaced by something else, ends it. */
class Course {
  #source;

  constructor(playback, say) {
    this.playback = playback;
    this.video = playback.video;
    this.#source = playback.source;
    this.say = say;
  }

  /** Waits until a condition holds; gives the milliseconds that it took, or null where it didn't within the limit. */
  async until(condition, limit = STEP_LIMIT_MS) {
    const start = performance.now();
    while (!condition()) {
      if (performance.now() - start > limit) return null;
      await this.pause(LOOK_MS);
    }
    return Math.round(performance.now() - start);
  }

  async pause(milliseconds) {
    await new Promise((done) => { setTimeout(done, milliseconds); });
    if (this.playback.source !== this.#source) throw new Error("something else was opened meanwhile");
  }

  /** Goes to a position, and waits until its picture is there. */
  async seek(position) {
    this.playback.seekTo(position);
    return this.until(() => this.isSettled);
  }

  get isSettled() {
    return !this.video.seeking && this.video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA;
  }
}

/** Twenty places, one after the other; then twenty that don't wait for the one before. */
async function seekStorm(course) {
  const random = sequence();
  const place = () => {
    const [start, end] = course.playback.seekable;
    return start + random() * Math.max(end - LEAST_BEFORE_END_S - start, 0);
  };
  const seeks = [];
  for (let number = 0; number < SEEKS; number += 1) {
    course.say(`Seek ${number + 1} of ${SEEKS} …`);
    const to = place();
    seeks.push({ to: rounded(to), ms: await course.seek(to) });
  }
  for (let number = 1; number < BURST_SEEKS; number += 1) {
    course.playback.seekTo(place());
    await course.pause(BURST_EVERY_MS);
  }
  const burst = await course.seek(place());
  const times = seeks.map(({ ms }) => ms).filter((ms) => ms !== null).sort((one, other) => one - other);
  return {
    seeks, failed: seeks.length - times.length + (burst === null ? 1 : 0),
    median_ms: times[Math.floor(times.length / 2)] ?? null, slowest_ms: times.at(-1) ?? null, burst_ms: burst,
  };
}

/** Each level by hand, up and down again; a step is done when its picture is shown. */
async function staircase(course) {
  const { playback, video } = course;
  const up = playback.engine.levels.map((_, index) => index);
  const steps = [];
  playback.play();
  for (const index of [...up, ...up.slice(0, -1).reverse()]) {
    const level = playback.engine.levels[index];
    course.say(`Level ${levelName(level)} …`);
    playback.setLevel(index);
    const ms = await course.until(() => {
      // A film that is over would stay on the step where it ended.
      if (video.ended) playback.seekTo(0);
      if (video.paused) playback.play();
      return playback.engine?.level === index && (!level.height || video.videoHeight === level.height);
    });
    steps.push({ level: index, name: levelName(level), ms, height: video.videoHeight });
  }
  playback.setLevel(-1);
  return { steps, failed: steps.filter(({ ms }) => ms === null).length };
}

/** The effect on viewers while the channel's encoder is started anew, which somebody else causes. */
async function encoderRestart(course) {
  const { playback, video } = course;
  const restarts = async () => {
    const items = await getAll("/api/live").catch(() => []);
    return items.find((item) => item.name === playback.source.key)?.restarts ?? null;
  };
  const before = await restarts();
  const latencyBefore = playback.engine.latency;
  const stood = watchStandstill(video);
  try {
    course.say("Waiting for a restart: end the channel's encoder, or its publisher's connection …");
    let now = before;
    let at = video.currentTime;
    const limit = performance.now() + RESTART_LIMIT_MS;
    while (now === null || before === null || now <= before) {
      if (performance.now() > limit) throw new Error("the encoder wasn't restarted in five minutes");
      at = video.currentTime;
      await course.pause(RESTART_LOOK_MS);
      now = await restarts();
    }
    course.say("It was restarted. Watching how it goes on …");
    const ms = await course.until(() => Math.abs(video.currentTime - at) > PLAYED_AFTER_RESTART_S && !video.paused);
    return {
      restarts: now - before, played_on: ms !== null, ms, longest_standstill_s: rounded(stood.longest),
      latency_before_s: rounded(latencyBefore), latency_after_s: rounded(playback.engine?.latency ?? null),
    };
  } finally {
    stood.end();
  }
}

/** Measures how long the picture stood still at most, in seconds, until it is ended. */
function watchStandstill(video) {
  let [last, since, longest] = [video.currentTime, performance.now(), 0];
  const timer = setInterval(() => {
    if (video.currentTime !== last) [last, since] = [video.currentTime, performance.now()];
    longest = Math.max(longest, performance.now() - since);
  }, LOOK_MS);
  return { get longest() { return longest / 1000; }, end: () => clearInterval(timer) };
}

/** The same numbers from 0 to 1 each time, so that runs can be compared (Park and Miller's generator). */
function sequence() {
  let state = 20_241;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

const rounded = (value) => (value === null ? null : Number(value.toFixed(3)));
