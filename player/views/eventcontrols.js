// Buttons that end a channel's event and begin the next one, for who runs the server.

import { el, isOwner, presented, say, send } from "../dom.js";

const NEEDS_TOKEN = "The admin token ends and begins events.";
const READ_ONLY = "This address only lets through what reads: end and begin events at the server's own address.";
const ENDED = "The event has ended. Its recording comes into the list of recordings as soon as it is made.";
const BEGINS = "The next event begins as soon as there is a picture.";

export class EventControls {
  #item;
  #isAsking = false;
  #end = el("button", { class: "plain", type: "button", click: () => this.#ask(true) }, "End the event");
  #really = el("button", { class: "plain", type: "button", click: () => this.#send("end", ENDED) }, "End it for everybody");
  #cancel = el("button", { class: "plain", type: "button", click: () => this.#ask(false) }, "Cancel");
  #start = el("button", { class: "plain", type: "button", click: () => this.#send("start", BEGINS) }, "Begin the next event");
  #said = el("p", { class: "status", role: "status" });
  node = el("div", { class: "event", hidden: true }, el("h2", {}, "Event"),
    el("div", { class: "sheet controls" }, this.#end, this.#really, this.#cancel, this.#start, this.#said));

  /** Called with a sentence where a token is needed, or without one where the given one is wrong. */
  onUnauthorized = () => {};
  /** Called when the list is to be loaded again. */
  onChange = () => {};

  /** @param item the channel of the list that is looked at, if any */
  update(item) {
    if (item?.name !== this.#item?.name) {
      this.#isAsking = false;
      say(this.#said, "");
    }
    this.#item = item;
    const isOver = item?.state === "ended";
    const isOn = !isOver && Boolean(item?.renditions?.length);
    this.node.hidden = !isOwner() || !(isOver || isOn);
    this.#start.hidden = !isOver;
    this.#end.hidden = !isOn || this.#isAsking;
    this.#really.hidden = this.#cancel.hidden = !isOn || !this.#isAsking;
  }

  #ask(isAsking) {
    this.#isAsking = isAsking;
    this.update(this.#item);
    (isAsking ? this.#really : this.#end).focus();
  }

  async #send(action, done) {
    const { name } = this.#item;
    this.#isAsking = false;
    if (!presented()) {
      this.update(this.#item);
      this.onUnauthorized(NEEDS_TOKEN);
      return;
    }
    let text = done;
    try {
      await send(`/live/${encodeURIComponent(name)}/${action}`, "POST");
    } catch (error) {
      if (error.status === 401) {
        this.onUnauthorized();
        text = "";
      } else if (error.name !== "TimeoutError") {
        // An answer that is late has to wait for the recording, while the event is over already.
        text = error.reason || (error.status === 403 ? READ_ONLY : "The server doesn't answer.");
      }
    }
    if (name !== this.#item?.name) return;
    say(this.#said, text);
    this.onChange();
  }
}
