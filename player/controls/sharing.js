// Addresses to give away: for who has given the admin token, where something is only for those with a token.

import { byId, copied, el, mayShare, say, sign } from "../dom.js";
import { NamedViewers } from "./namedviewers.js";

const untilWhen = (seconds) => new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
const withoutToken = (address) => address.replace(/^\/t\/[^/]+/, "");

export class Sharing {
  #form = byId("sharing");
  /** Address of what the form shares, whose token is to be valid for all beneath it, and the button that has unfolded it. */
  #address = "";
  #opener = null;
  /** Addresses of what is played, and of the file that it is; "" for none. */
  #played = "";
  #file = "";
  #button = byId("share");
  #viewers = new NamedViewers(byId("named-viewers"));

  constructor() {
    this.#button.addEventListener("click", () => this.#toggle(this.#button, this.#played, (form) => byId("status").before(form)));
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#make();
    });
    for (const button of this.#form.querySelectorAll("[data-copies]")) {
      button.addEventListener("click", () => this.#copy(button));
    }
  }

  /** Offers to share what is played, by the address of its playlist or file, and the file to download; "" offers nothing. */
  show(address = this.#played, file = this.#file) {
    this.#played = address;
    this.#file = file;
    this.offer(this.#button, address);
  }

  /** Returns a button that shares something else. @param address returns what; place puts the form where it unfolds */
  makeButton(label, address, place) {
    const button = el("button", { class: "plain", type: "button", "aria-expanded": "false", hidden: true }, label);
    button.addEventListener("click", () => this.#toggle(button, address(), place));
    return button;
  }

  /** Shows a button of something that has an address, to who may share it. */
  offer(button, address) {
    button.hidden = !address || !mayShare();
    if (this.#opener === button && this.#address !== withoutToken(address)) this.#fold();
  }

  #toggle(button, address, place) {
    const isOpen = this.#opener === button;
    this.#fold();
    if (isOpen) return;
    this.#opener = button;
    this.#address = withoutToken(address);
    place(this.#form);
    this.#form.hidden = false;
    this.#field("share-file-box").hidden = button !== this.#button || !this.#file;
    button.setAttribute("aria-expanded", "true");
    this.#viewers.show(true);
    this.#field("share-for").focus();
  }

  /** An element of the form, which may have left the page with what it shared. */
  #field(id) {
    return this.#form.querySelector(`#${id}`);
  }

  #fold() {
    this.#opener?.setAttribute("aria-expanded", "false");
    this.#opener = null;
    this.#form.hidden = this.#field("shared").hidden = true;
    say(this.#field("sharing-state"), "");
    this.#viewers.show(false);
  }

  async #make() {
    const address = this.#address;
    const isWithFile = this.#field("share-file").checked && !this.#field("share-file-box").hidden;
    const how = { for: this.#field("share-for").value, name: this.#field("share-name").value.trim() };
    try {
      const { url, page, expires, open: isOpen } = await sign({ path: address, ...how, clips: true });
      // A token for what is made of a film doesn't open the film's file.
      const file = isWithFile ? await sign({ path: withoutToken(this.#file), ...how }) : null;
      if (address !== this.#address) return;
      // A player takes the address itself, a browser the page behind the same token; a folder has a page alone.
      this.#field("shared-page").value = page;
      this.#field("shared-media").value = url;
      this.#field("shared-file").value = file?.url ?? "";
      for (const node of this.#form.querySelectorAll(".for-players")) node.hidden = address.endsWith("/");
      for (const node of this.#form.querySelectorAll(".for-files")) node.hidden = !file;
      this.#field("shared").hidden = false;
      for (const button of this.#form.querySelectorAll("[data-copies]")) say(button, "Copy");
      say(this.#field("sharing-state"), isOpen
        ? "Everybody can play this, also without a token and for longer: it isn't closed."
        : `Whoever has one of these addresses can play this until ${untilWhen(expires)}.`);
      this.#field("shared-page").select();
    } catch (error) {
      say(this.#field("sharing-state"), error.reason || "The server doesn't answer.");
    }
  }

  async #copy(button) {
    if (await copied(this.#field(button.dataset.copies))) say(button, "Copied");
  }
}
