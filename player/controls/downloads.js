// Downloads: the server is asked first whether it has the file, so that its reason is shown where it hasn't.

import { el, say } from "../dom.js";
import { lookAt, sentence } from "../refusal.js";

/** Files that are there instead, each a line of the refusal: a name, and the query of its part. */
const PART = /^[\w.-]+\?\S+$/;
const MOST_PARTS = 20;

/** Has each link of the page that downloads something ask first, and says beside it why there is nothing. */
export function checkDownloads() {
  const said = el("span", {});
  const note = el("p", { class: "status refusal", role: "alert" }, said);
  let allowed = null;
  document.addEventListener("click", async (event) => {
    const link = event.target.closest?.("a[download]");
    if (!link || event.defaultPrevented || link === allowed) return;
    event.preventDefault();
    note.remove();
    const { status, lines } = await lookAt(link.href);
    if (status >= 200 && status < 300) {
      allowed = link;
      link.click();
      allowed = null;
      return;
    }
    link.after(note);
    const parts = lines.slice(1, 1 + MOST_PARTS).filter((line) => PART.test(line));
    say(said, sentence(lines[0] ?? "") || (status ? "The server has nothing at this address." : "The server doesn't answer."));
    note.replaceChildren(said, ...parts.map((line, index) => el("a", { href: new URL(line, link.href).href, download: true }, `Part ${index + 1}`)));
  });
}
