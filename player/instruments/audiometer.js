// The level meter: analyses the audio output with Web Audio, in bars of about a third of an octave.

const BARS = 40;
const CALM_FRAME_MS = 500;

export class Meter {
  #context = null;
  #audio;
  #canvas;
  analyser = null;

  /** @param canvas returns the canvas to paint on, or null */
  constructor(audio, canvas) {
    this.#audio = audio;
    this.#canvas = canvas;
  }

  /** Call when playback begins, preferably within a click handler. */
  listen() {
    if (this.#context) return void this.#context.resume();
    this.#context = new AudioContext();
    const join = () => {
      // A suspended context would swallow the sound: the element is led through it only once it runs.
      if (this.#context.state !== "running" || this.analyser) return;
      this.analyser = new AnalyserNode(this.#context, { fftSize: 1024, smoothingTimeConstant: 0.82 });
      const source = this.#context.createMediaElementSource(this.#audio);
      source.connect(this.analyser).connect(this.#context.destination);
      this.#draw();
    };
    this.#context.addEventListener("statechange", join);
    join();
  }

  /** Loudness now, 0 to 1; null while there is no meter. */
  level() {
    if (!this.analyser || this.#context.state !== "running") return null;
    const wave = new Float32Array(this.analyser.fftSize);
    this.analyser.getFloatTimeDomainData(wave);
    return Math.sqrt(wave.reduce((sum, value) => sum + value * value, 0) / wave.length);
  }

  #draw() {
    const bins = new Uint8Array(this.analyser.frequencyBinCount);
    const calm = matchMedia("(prefers-reduced-motion: reduce)");
    const frame = () => {
      const canvas = this.#canvas();
      if (canvas) {
        this.analyser.getByteFrequencyData(bins);
        paint(canvas, bins);
      }
      if (calm.matches) setTimeout(frame, CALM_FRAME_MS);
      else requestAnimationFrame(frame);
    };
    frame();
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
