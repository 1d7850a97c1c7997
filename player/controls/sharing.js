// Addresses to give away: for who has given the admin token, where something is only for those with a token.

import { byId, copied, mayShare, say, sign } from "../dom.js";
import { NamedViewers } from "./namedviewers.js";

export class Sharing {
  /** Address of what is played, whose token is to be valid for all beneath it; "" for none. */
  #address = "";
  #viewers = new NamedViewers(byId("named-viewers"));

  constructor() {
    byId("share").addEventListener("click", () => this.#unfold(byId("sharing").hidden));
    byId("sharing").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#make();
    });
    for (const button of byId("sharing").querySelectorAll("[data-copies]")) {
      button.addEventListener("click", () => copy(button));
    }
  }

  /** Offers to share an item by the address of its playlist or file, without a token; "" offers nothing. */
  show(address = this.#address) {
    if (address !== this.#address) this.#unfold(false);
    this.#address = address;
    byId("share").hidden = !address || !mayShare();
    if (byId("share").hidden) this.#unfold(false);
  }

  #unfold(isOpen) {
    byId("sharing").hidden = !isOpen;
    byId("share").setAttribute("aria-expanded", String(isOpen));
    byId("shared").hidden = true;
    say(byId("sharing-state"), "");
    this.#viewers.show(isOpen);
    if (isOpen) byId("share-for").focus();
  }

  async #make() {
    const address = this.#address;
    try {
      const { url, token } = await sign({
        path: address,
        for: byId("share-for").value,
        name: byId("share-name").value.trim(),
        clips: true,
      });
      if (address !== this.#address) return;
      // A player takes the address itself, a browser the page behind the same token.
      const view = location.hash.split("?")[0];
      byId("shared-page").value = `${location.origin}/t/${token}/${view}?mode=hls`;
      byId("shared-media").value = url;
      byId("shared").hidden = false;
      say(byId("sharing-state"), "Whoever has one of these addresses can play this until it expires.");
      byId("shared-page").select();
    } catch (error) {
      say(byId("sharing-state"), error.reason || "The server doesn't answer.");
    }
  }
}

async function copy(button) {
  if (await copied(byId(button.dataset.copies))) say(byId("sharing-state"), "Copied.");
}
