// Radio: one audio element, a card per station, a level meter drawn from what is really heard.

import { byId, count, el, encodePath, say, syncRows } from "./dom.js";
import { Progress, Retry } from "./retry.js";

const CHECK_EVERY_MS = 500;
const STUCK_MS = 8000;
const BARS = 40;
const CALM_FRAME_MS = 500;
const STATES = { starting: "is starting", down: "is silent at the moment" };

export class RadioView {
  address = "/api/radio";
  everyMs = 4000;
  audio = new Audio();
  #items = [];
  #rows = new Map();
  #playing = null;
  #retry = new Retry();
  #progress = new Progress();
  #context = null;
  #analyser = null;
  #list = el("ul", { class: "stations" });
  #status = el("p", { class: "status", role: "status", "aria-live": "polite", id: "radio-status" });
  #empty = el("p", { class: "empty" }, "No station is configured. Add a [[radio]] section to headwater.toml, or start with --demo.");

  constructor(onPlay) {
    this.onPlay = onPlay;
    this.audio.preload = "none";
    const volume = el("input", { type: "range", min: 0, max: 1, step: 0.05, value: 1, id: "volume",
      input: (event) => { this.audio.volume = Number(event.target.value); } });
    byId("panel-radio").append(
      el("div", { class: "dial" }, el("h2", {}, "Stations"), el("label", { class: "field" }, el("span", {}, "Volume"), volume)),
      this.#list, this.#empty, this.#status);
    for (const trouble of ["error", "ended"]) this.audio.addEventListener(trouble, () => this.#lost());
    this.audio.addEventListener("playing", () => say(this.#status, ""));
    this.audio.addEventListener("stalled", () => {
      if (this.audio.readyState < HTMLMediaElement.HAVE_FUTURE_DATA) say(this.#status, "The station is silent. Waiting for it …");
    });
    setInterval(() => this.#check(), CHECK_EVERY_MS);
  }

  update(items) {
    this.#items = items;
    this.#empty.hidden = items.length > 0;
    syncRows(this.#list, this.#rows, items, (item) => item.name, (item) => this.#makeCard(item));
    this.#show();
  }

  enter(path) {
    if (!path || path === this.#playing?.name) return;
    const item = this.#items.find((each) => each.name === path);
    if (item) this.play(item);
    else say(this.#status, `There is no station “${path}”.`);
  }

  play(item) {
    this.stop();
    this.#playing = item;
    this.onPlay();
    this.#listen();
    this.#connect();
  }

  stop() {
    this.#retry.reset();
    this.#playing = null;
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.audio.load();
    say(this.#status, "");
    this.#show();
  }

  /** Loudness now, 0 to 1; null while there is no meter. */
  level() {
    if (!this.#analyser || this.#context.state !== "running") return null;
    const wave = new Float32Array(this.#analyser.fftSize);
    this.#analyser.getFloatTimeDomainData(wave);
    return Math.sqrt(wave.reduce((sum, value) => sum + value * value, 0) / wave.length);
  }

  #connect() {
    this.audio.src = this.#playing.url;
    this.audio.play().catch((error) => {
      if (error.name !== "NotAllowedError") return;
      this.stop();
      say(this.#status, "Press play to listen: the browser waits for your word.");
    });
  }

  #lost() {
    if (!this.#playing || !this.audio.hasAttribute("src")) return;
    const willTry = this.#retry.later(() => this.#connect());
    say(this.#status, willTry ? "The station went away. Trying again …" : "The station doesn't answer. Press play to try once more.");
    if (!willTry) this.#playing = null;
    this.#show();
  }

  #check() {
    if (!this.#playing) return;
    this.#progress.check(this.audio, STUCK_MS, {
      moved: () => {
        if (this.#retry.attempts === 0 || this.#retry.pending) return;
        this.#retry.reset();
        say(this.#status, "");
      },
      stuck: () => this.#lost(),
    });
  }

  #listen() {
    if (this.#context) return void this.#context.resume();
    this.#context = new AudioContext();
    const join = () => {
      // A suspended context would swallow the sound: the element is led through it only once it runs.
      if (this.#context.state !== "running" || this.#analyser) return;
      this.#analyser = new AnalyserNode(this.#context, { fftSize: 1024, smoothingTimeConstant: 0.82 });
      const source = this.#context.createMediaElementSource(this.audio);
      source.connect(this.#analyser).connect(this.#context.destination);
      this.#draw();
    };
    this.#context.addEventListener("statechange", join);
    join();
  }

  #draw() {
    const bins = new Uint8Array(this.#analyser.frequencyBinCount);
    const calm = matchMedia("(prefers-reduced-motion: reduce)");
    const frame = () => {
      const canvas = this.#playing && this.#rows.get(this.#playing.name)?.canvas;
      if (canvas && !byId("panel-radio").hidden) {
        this.#analyser.getByteFrequencyData(bins);
        paint(canvas, bins);
      }
      if (calm.matches) setTimeout(frame, CALM_FRAME_MS);
      else requestAnimationFrame(frame);
    };
    frame();
  }

  #show() {
    for (const [name, row] of this.#rows) {
      const on = name === this.#playing?.name;
      row.node.classList.toggle("on", on);
      row.button.setAttribute("aria-pressed", String(on));
      row.button.setAttribute("aria-label", `${on ? "Stop" : "Play"} ${name}`);
    }
  }

  #makeCard(item) {
    const title = el("p", { class: "song" });
    const facts = el("p", { class: "quiet" });
    const canvas = el("canvas", { class: "meter", "aria-hidden": "true" });
    const click = () => {
      const on = item.name === this.#playing?.name;
      if (on) this.stop();
      else this.play(this.#items.find((each) => each.name === item.name) ?? item);
      history.replaceState(null, "", on ? "#radio" : `#radio/${encodePath(item.name)}`);
    };
    const button = el("button", { class: "play", type: "button", click });
    const address = el("a", { class: "quiet", href: item.url }, location.origin + item.url);
    return {
      node: el("li", { class: "station" }, button,
        el("div", { class: "about" }, el("h3", {}, item.name), title, facts, address), canvas),
      button,
      canvas,
      update(now) {
        say(title, now.title || "–");
        say(facts, [
          STATES[now.state] && `The station ${STATES[now.state]}`,
          now.bitrate && `${now.bitrate} kbit/s`,
          count(now.listeners ?? 0, "listener", "listeners"),
        ].filter(Boolean).join(" · "));
      },
    };
  }
}

function paint(canvas, bins) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = getComputedStyle(canvas).color;
  const step = width / BARS;
  for (let bar = 0; bar < BARS; bar += 1) {
    // Octaves, not hertz: each bar is about a third of one.
    const bin = Math.min(bins.length - 1, Math.round(2 ** ((bar / (BARS - 1)) * 8)));
    const tall = Math.max(2, (bins[bin] / 255) * height);
    pen.fillRect(bar * step, height - tall, step * 0.6, tall);
  }
}
