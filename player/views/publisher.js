// The view of a live channel's publisher: who is on air with what, and what is typed into an encoder such as OBS.

import { bits, el, getWithToken, isOwner, presented, say, serverUrl } from "../dom.js";

const PROTOCOLS = { http: "HTTP", rtmp: "RTMP", srt: "SRT" };
const HIDDEN = "…";
const ASKS = "The key is for who has server.admin_token.";
const RENEWS = "The server has only a hash of this key, which it showed at the start that made it. "
  + "A new key takes its place, and disconnects who publishes with it.";
const CODECS = { h264: "H.264", hevc: "HEVC", av1: "AV1", vp9: "VP9", aac: "AAC", ac3: "AC-3", eac3: "E-AC-3", opus: "Opus", flac: "FLAC", mp3: "MP3" };

const FACTS = {
  Protocol: ({ protocol, container }) => protocol && `${PROTOCOLS[protocol] ?? protocol} (${container})`,
  Picture: (one) => one.video_codec && [codec(one.video_codec), one.width && `${one.width} × ${one.height}`].filter(Boolean).join(", "),
  "Frame rate": ({ frame_rate: rate }) => rate && `${Number(rate.toFixed(2))} fps`,
  Sound: (one) => one.audio_codec && codec(one.audio_codec),
  Bitrate: ({ bitrate }) => bitrate && bits(bitrate),
  "Key frames": ({ keyframe_interval: seconds }) => seconds && `every ${Number(seconds.toFixed(2))} s`,
  "Round trip": ({ link }) => link && `${Number((link.round_trip_seconds * 1000).toFixed(1))} ms`,
  Packets: ({ link, lost_packets: missing }) => link
    ? `${link.lost} lost, ${link.retransmitted} sent again, ${link.dropped} too late`
    : missing && `${missing} of MPEG-TS missing`,
  Since: ({ since }) => since && new Date(since * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "medium" }),
  "Pushed on to": ({ forwards }) => forwards.map(({ target, state, last_error: error }) =>
    `${target}: ${state}${state !== "sending" && error ? ` (${error})` : ""}`).join("; "),
  "Last error": (one) => one.last_error,
};

export class PublisherPanel {
  #name = "";
  #key = "";
  #isOnlyHash = false;
  #isOver = false;
  #publisher = null;
  /** The channel whose key was made just now, and the key: it is shown as soon as the channel is. */
  #made = { name: "", key: "" };
  #dot = el("span", { class: "dot", "aria-hidden": "true" });
  #state = el("span", { class: "state" });
  #facts = new Rows();
  #addresses = new Rows();
  #button = el("button", { type: "button", click: () => this.#toggle() });
  #input = el("input", { type: "password", autocomplete: "current-password", "aria-label": "Admin token" });
  #wrong = el("p", { class: "status", role: "alert" });
  #note = el("span", {});
  #submit = el("button", { type: "submit" });
  #form = el("form", { class: "password", hidden: true }, this.#note, this.#input, this.#submit, this.#wrong);

  constructor() {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      const token = this.#input.value || presented();
      if (token) this.#ask(token, this.#isOnlyHash ? "POST" : "GET");
    });
    this.node = el("div", { class: "publisher", hidden: true }, el("h2", {}, "Publisher"),
      el("div", { class: "sheet" },
        el("p", { class: "name" }, this.#dot, this.#state), this.#facts.node,
        el("h3", {}, "What to type into OBS or another encoder"), this.#addresses.node,
        el("div", { class: "password" }, this.#button), this.#form));
  }

  /** @param item a channel of the list; without one, or with one that nobody publishes to, there is nothing to see */
  update(item) {
    this.#publisher = (isOwner() && item?.publisher) || null;
    this.#isOver = item?.state === "ended";
    this.node.hidden = this.#publisher === null;
    const name = this.#publisher ? item.name : "";
    if (name !== this.#name) this.#hide();
    this.#name = name;
    if (name && name === this.#made.name) {
      this.#key = this.#made.key;
      this.#made = { name: "", key: "" };
    }
    if (this.#publisher) this.#show();
  }

  /** Shows the key of a channel that was just made, once that is looked at. */
  reveal(name, key) {
    this.#made = { name, key };
  }

  #show() {
    const one = this.#publisher;
    this.#dot.dataset.state = one.on_air ? "live" : "idle";
    const others = one.publishers - Number(one.on_air);
    const waiting = one.publishers ? "Somebody connects" : this.#isOver ? "The event is over" : "Waiting for a publisher";
    say(this.#state, one.on_air ? `On air${others > 0 ? `, and ${others} more` : ""}` : waiting);
    for (const [label, read] of Object.entries(FACTS)) this.#facts.write(label, read(one) || "");
    const query = `?key=${this.#key ? encodeURIComponent(this.#key) : HIDDEN}`;
    const { rtmp_port: rtmp, srt_port: srt } = one;
    const { hostname } = new URL(serverUrl());
    this.#addresses.write("Server", rtmp ? `rtmp://${hostname}:${rtmp}/live` : "");
    this.#addresses.write("Stream key", rtmp ? `${this.#name}${query}` : "");
    this.#addresses.write("SRT", srt ? `srt://${hostname}:${srt}?streamid=publish:${this.#name}:${this.#key || HIDDEN}` : "");
    this.#addresses.write("HTTP, by PUT", `${serverUrl()}${one.ingest}${query}`);
    this.#addresses.write("Multitrack video", one.multitrack ? `${serverUrl()}${one.multitrack}` : "");
    say(this.#button, this.#key ? "Hide the key" : "Show the key");
    this.#button.hidden = !this.#form.hidden;
    say(this.#note, this.#isOnlyHash ? RENEWS : ASKS);
    say(this.#submit, this.#isOnlyHash ? "Make a new key" : "Show it");
  }

  #hide() {
    this.#key = "";
    this.#isOnlyHash = false;
    this.#input.value = "";
    this.#form.hidden = true;
    say(this.#wrong, "");
  }

  #toggle() {
    const isShown = this.#key !== "";
    this.#hide();
    if (!isShown && presented()) this.#ask(presented(), "GET");
    else this.#form.hidden = isShown;
    this.#show();
    if (!this.#form.hidden) this.#input.focus();
  }

  /** Asks for the key, or by POST for a new one; the token that was typed is forgotten at once. */
  async #ask(token, method) {
    const name = this.#name;
    const renews = method === "POST";
    let key = "";
    let reason = "";
    try {
      const address = `/api/live/${encodeURIComponent(name)}/publish_key`;
      key = (await getWithToken(address, token, method)).publish_key ?? "";
    } catch (error) {
      if (error.status === 401) reason = "That isn't the admin token of this server.";
      else reason = error.reason || "The server doesn't answer.";
    }
    if (name !== this.#name) return;
    this.#hide();
    this.#key = key;
    this.#isOnlyHash = !key && (renews || !reason);
    this.#form.hidden = Boolean(key);
    say(this.#wrong, reason);
    this.#show();
  }
}

/** Names and values; those without a value aren't shown. */
class Rows {
  #rows = new Map();
  node = el("dl", {});

  write(label, text) {
    if (!this.#rows.has(label)) {
      const value = el("dd", {});
      const row = el("div", {}, el("dt", {}, label), value);
      this.#rows.set(label, { row, value });
      this.node.append(row);
    }
    const { row, value } = this.#rows.get(label);
    row.hidden = !text;
    say(value, text);
  }
}

const codec = (name) => CODECS[name] ?? name;
