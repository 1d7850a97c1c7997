// What is typed into televisions and apps: the addresses of the list and the guide, with a QR code of the list's.

import { copied, el, hasLists, isAdministrator, mayShare, pageUrl, say, serverUrl, sign } from "../dom.js";

const APPS = {
  Kodi: "Install the add-on “PVR IPTV Simple Client”. Its settings have a field for each of the two, and one for catch-up.",
  Jellyfin: "Dashboard, Live TV: the list is an “M3U Tuner”, the guide a provider “XMLTV”.",
  "On a phone": "Scan the code, or choose “Add playlist” in an app for IPTV; VLC opens the list as a network stream.",
};
const THIS_MACHINE = /^(localhost|127\.[\d.]+|\[::1\])$/;
const FOR_OTHERS = "This address is for this machine alone. Open the page by the server’s name or address in your network, and you have it for others.";
const FOR_HOLDERS = "Whoever has one of these addresses can watch what you can.";
const LASTING = "30d";

export class Television {
  #code = el("img", { alt: "QR code of the list’s address", width: 180, height: 180, error: () => { this.#code.hidden = true; } });
  #list = new Address("List (M3U)", "Copy the list");
  #guide = new Address("Guide (XMLTV)", "Copy the guide");
  #note = el("p", { class: "quiet", role: "status" });

  constructor() {
    const apps = Object.entries(APPS).map(([name, what]) => el("div", {}, el("dt", {}, name), el("dd", {}, what)));
    this.node = el("details", { class: "operator television", hidden: true, toggle: () => this.node.open && this.#show() },
      el("summary", {}, "Watch on television"),
      el("div", { class: "sheet" }, this.#code, this.#list.node, this.#guide.node, this.#note, el("dl", {}, ...apps)));
  }

  /** Shows the box where there is something to watch. */
  update(items) {
    this.node.hidden = items.length === 0 || !hasLists();
  }

  async #show() {
    let page = pageUrl();
    let until = "";
    if (mayShare() && isAdministrator()) {
      try {
        // The administrator's own token is in no address: what a television has needs one that lasts.
        const signed = await sign({ path: "/", for: LASTING, clips: true });
        page = signed.page.replace(/\/$/, "");
        until = ` They are valid until ${new Date(signed.expires * 1000).toLocaleDateString([], { dateStyle: "medium" })}.`;
      } catch (error) {
        say(this.#note, error.reason || "The server doesn’t answer.");
        return;
      }
    }
    const token = page.slice(serverUrl().length);
    this.#list.value = `${page}/playlist.m3u`;
    this.#guide.value = `${page}/guide.xml`;
    this.#code.hidden = false;
    this.#code.src = `${token}/playlist.svg`;
    say(this.#note, THIS_MACHINE.test(new URL(page).hostname) ? FOR_OTHERS : token ? FOR_HOLDERS + until : "");
  }
}

/** An address in a field, and the button that copies it. */
class Address {
  #input = el("input", { readonly: true });
  #copy = el("button", { class: "plain", type: "button" });
  #action;

  /** @param label of the field; action of the button */
  constructor(label, action) {
    this.#action = action;
    this.#copy.addEventListener("click", async () => {
      if (await copied(this.#input)) say(this.#copy, "Copied");
    });
    this.node = el("div", { class: "password" }, el("label", {}, el("span", { class: "quiet" }, label), this.#input), this.#copy);
  }

  set value(address) {
    this.#input.value = address;
    say(this.#copy, this.#action);
  }
}
