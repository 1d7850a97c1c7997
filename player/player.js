// The page: which view is open, said by the address (#library/film.720p.mp4?mode=hls, #live/demo, #radio/demo.mp3,
// #events/demo).

import { Controls } from "./controls/controls.js";
import { checkDownloads } from "./controls/downloads.js";
import {
  byId, el, encodePath, forgetVisitor, getAll, getList, getVisitor, isOwner, itemAddress, present, presented, refusalWith, say, unlock,
} from "./dom.js";
import { EventsView } from "./views/events.js";
import { LibraryView } from "./views/library.js";
import { LiveView } from "./views/live.js";
import { Playback } from "./playback.js";
import { RadioView } from "./views/radio.js";
import { SeekBar } from "./controls/seekbar.js";
import { Settings } from "./controls/settings.js";
import { Shortcuts } from "./controls/shortcuts.js";
import { Stage } from "./controls/iteminfo.js";
import { read } from "./instruments/stats.js";

const NAMES = ["library", "live", "radio", "events"];
const WITHOUT_STAGE = ["radio", "events"];
const ASK_AGAIN_MS = 2000;
const LONGEST_WAIT_MS = 120_000;
const TOO_OFTEN = "This server is asked too often from here at the moment.";
const UNKNOWN_NAME = `This server gives its lists under names that it knows. Add “${location.hostname}” to server.names in its configuration.`;

const WRONG_TOKEN = "That isn't the admin token of this server.";
const FOR_ADMINISTRATOR = "The admin token shows what is for this server's administrator.";

/** To who has opened the server's address alone, where its lists are protected. */
const BY_ADDRESS = "What is here plays by its own address. Ask whoever runs this server for the address of what you want to watch or hear.";

const playback = new Playback(byId("video"));
const stage = new Stage(playback);
const controls = new Controls(playback);
new SeekBar(playback, stage.chapters);
new Settings(playback, stage);
const radio = new RadioView(() => playback.video.pause(), stage.sharing);
const events = new EventsView();
const views = { library: new LibraryView(stage), live: new LiveView(stage), radio, events };
/** The views that have shown something. */
const opened = new Set();
let instruments = null;
let route = null;
let timer = 0;

function parse(hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split("?", 2);
  const [view, ...rest] = path.split("/");
  const text = rest.join("/");
  let decoded = text;
  try {
    decoded = decodeURIComponent(text);
  } catch {
    // Malformed percent-encoding: use it as it is, so that it is not found.
  }
  return { view: NAMES.includes(view) ? view : "library", path: decoded, options: new URLSearchParams(query) };
}

function open() {
  const before = route?.view;
  route = parse(location.hash);
  if (route.options.has("admin") && !presented()) askForAdministrator(FOR_ADMINISTRATOR);
  document.body.dataset.view = route.view;
  for (const name of NAMES) {
    const here = name === route.view;
    const tab = byId(`tab-${name}`);
    tab.setAttribute("aria-selected", String(here));
    tab.tabIndex = here ? 0 : -1;
    byId(`panel-${name}`).hidden = !here;
  }
  byId("stage").hidden = WITHOUT_STAGE.includes(route.view);
  document.title = `${route.path ? `${route.path} – ` : ""}${byId(`tab-${route.view}`).textContent} – Headwater`;
  if (before === route.view && (views[before].knows?.(route.path) ?? true)) {
    views[route.view].enter(route.path, route.options);
    return;
  }
  if (before && before !== route.view) {
    stage.clear("");
    views[before].leave?.();
  }
  refresh(true);
}

/** Fetches the open view's list, now and every few seconds, and enters the view with the first one. */
async function refresh(entering) {
  clearTimeout(timer);
  const { view } = route;
  let entered = !entering;
  let next = views[view].everyMs;
  if (!document.hidden || entering) {
    try {
      const visitor = await getVisitor();
      byId("to-administrator").hidden = !visitor.lists || (visitor.owner && !(visitor.hidden && !visitor.administrator));
      if (presented() && !visitor.administrator) {
        if (visitor.lists) askForAdministrator();
        else present("");
      }
      if (view !== route.view) return;
      const isClosed = !visitor.lists && !isItem(route.path);
      byId(`panel-${view}`).hidden = isClosed && !opened.has(view);
      byId("stage").hidden = WITHOUT_STAGE.includes(view) || (isClosed && !playback.source);
      if (isClosed) {
        if (entering) showClosed(visitor.by !== "");
        // A folder's own address says what is wrong with the token that the page was opened with.
        if (entering && route.path) await getList(itemAddress(view, route.path));
        return;
      }
      const items = await (views[view].load?.(route.path) ?? (visitor.lists ? getAll(views[view].address) : getList(itemAddress(view, route.path))));
      if (view !== route.view) return;
      document.body.classList.remove("server-away");
      byId("notice").hidden = true;
      if (await unlock()) {
        stage.sharing.show();
        refresh(entering);
        return;
      }
      views[view].update(items);
      opened.add(view);
      // What isn't in the list may be there all the same: beyond its pages, or for those alone who have a token.
      const isHidden = route.path && !views[view].finds(route.path) && byId("administrator").hidden;
      if (visitor.lists && isHidden) {
        const [item] = await getList(itemAddress(view, route.path));
        if (view !== route.view) return;
        if (item) views[view].add?.(item);
      }
      next = views[view].everyMs;
      if (entering && !views[view].isLooking?.(route.path)) {
        views[view].enter(route.path, route.options);
        entered = true;
        if (!location.hash && views.library.isEmpty) leaveEmptyLibrary();
      }
    } catch (error) {
      if (view !== route.view) return;
      const { status, reason } = error;
      // What playback says of it meanwhile would be a second message.
      document.body.classList.toggle("server-away", !(status >= 400 && status < 500));
      if (status === 401 && entering) stage.clear("");
      if (status === 401) askForToken(view, reason);
      else if (status === 421) say(byId("notice"), UNKNOWN_NAME);
      else if (status === 429) say(byId("notice"), `${reason || TOO_OFTEN} The page waits, and goes on by itself.`);
      else say(byId("notice"), `${reason || "The server doesn't answer."} This page goes on asking${isOwner() && !reason ? "; check that headwater is running" : ""}.`);
      byId("notice").hidden = status === 401 && !byId("administrator").hidden;
      // Stop polling until a token is entered.
      const wait = Math.max(ASK_AGAIN_MS, Math.min(1000 * (error.retryAfter ?? 0), LONGEST_WAIT_MS));
      next = status === 401 || status === 421 ? Infinity : wait;
    }
  }
  clearTimeout(timer);
  if (next < Infinity) timer = setTimeout(() => refresh(!entered), next);
}

/** Opens the first other section that has something, where the address names none. */
async function leaveEmptyLibrary() {
  for (const name of NAMES.slice(1)) {
    const items = await (views[name].getAll?.() ?? getAll(views[name].address)).catch(() => []);
    // The viewer has chosen a section meanwhile.
    if (location.hash) return;
    if (items.length > 0) {
      location.replace(`#${name}`);
      return;
    }
  }
}

/** Whether a path names one item: not all, and no folder. */
const isItem = (path) => path !== "" && !path.endsWith("/");

/** Says to visitors how something is played, where lists are protected; the field is folded up until it is asked for. */
function showClosed(isWrong) {
  const place = byId("notice");
  byId("administrator").hidden = true;
  const form = makeForm("Admin token", "Show the lists", (given) => {
    place.hidden = true;
    present(given);
    refresh(true);
  });
  const said = isWrong ? WRONG_TOKEN : "";
  place.replaceChildren(BY_ADDRESS, el("details", { open: isWrong }, el("summary", {}, "For this server's administrator"), said, form));
  place.hidden = false;
}

/** Asks for a token, where what the address names is for those alone who have one; the reason is the server's. */
function askForToken(view, reason) {
  forgetVisitor();
  // An address with ?admin asks for the administrator's token already.
  if (!byId("administrator").hidden) return;
  const place = byId("notice");
  const wrong = el("span", { role: "alert" });
  const form = makeForm("Token", "Open", async (given) => {
    say(wrong, "");
    const refusal = await refusalWith(given, itemAddress(view, route.path)).catch(() => "The server doesn't answer.");
    if (!refusal) {
      // The page behind a token plays what is behind it.
      location.assign(`/t/${encodeURIComponent(given)}/${location.hash}`);
      return;
    }
    present(given);
    if ((await getVisitor().catch(() => ({}))).administrator) {
      place.hidden = true;
      refresh(true);
    } else {
      present("");
      say(wrong, refusal);
    }
  });
  place.replaceChildren(`“${route.path}”: ${reason} Ask whoever runs this server for an address with a token that is valid.`, form, wrong);
  place.hidden = false;
}

/** Asks for the admin token, where the address does or the one that was given is wrong. */
function askForAdministrator(sentence = WRONG_TOKEN) {
  const place = byId("administrator");
  present("");
  place.replaceChildren(sentence, makeForm("Admin token", "Show it", (given) => {
    place.hidden = true;
    present(given);
    refresh(true);
  }));
  place.hidden = false;
}

/** @param answer called with what was typed */
function makeForm(label, action, answer) {
  const input = el("input", { type: "password", autocomplete: "current-password" });
  const form = el("form", { class: "password" }, el("label", { class: "field" }, el("span", {}, label), input), el("button", { type: "submit" }, action));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.value) answer(input.value);
  });
  return form;
}

/** Goes on with what plays in another way, with these options of the address; without one that is 0 or undefined. */
function goOn(changes) {
  const { key } = playback.source;
  const options = new URLSearchParams(route.options);
  for (const [name, value] of Object.entries(changes)) {
    if (value) options.set(name, value);
    else options.delete(name);
  }
  location.hash = `${route.view}/${encodePath(key)}?${options}`;
}

function onTabKey(event) {
  const now = NAMES.indexOf(route.view);
  const next = { ArrowRight: now + 1, ArrowLeft: now + NAMES.length - 1, Home: 0, End: NAMES.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const name = NAMES[next % NAMES.length];
  location.hash = name;
  byId(`tab-${name}`).focus();
}

for (const name of NAMES) {
  const tab = byId(`tab-${name}`);
  tab.addEventListener("click", () => { location.hash = name; });
  tab.addEventListener("keydown", onTabKey);
}
stage.preparation.onUnauthorized = askForAdministrator;
views.live.onUnauthorized = (sentence) => askForAdministrator(sentence);
views.live.onChange = () => refresh(false);
radio.onChange = () => refresh(false);
radio.onUnauthorized = (sentence) => askForAdministrator(sentence);
const toAdministrator = () => {
  askForAdministrator(FOR_ADMINISTRATOR);
  byId("administrator").querySelector("input").focus();
};
byId("to-administrator").addEventListener("click", toAdministrator);
views.library.onAdministrator = toAdministrator;
views.library.onChange = () => refresh(false);
checkDownloads();
new Shortcuts(playback, controls, () => {
  if (route.view !== "library") return false;
  views.library.focusSearch();
  return true;
});
// The file itself has no subtitles in its picture.
stage.onMode = (mode) => goOn({ mode, burn: mode === "file" ? 0 : playback.source.burned });
playback.onBurn = (burn) => goOn({ burn });
playback.video.addEventListener("play", () => radio.stop());
// Refresh the list, since the number of listeners or viewers has changed.
radio.audio.addEventListener("playing", () => refresh(false));
events.onOpen = () => refresh(false);
playback.video.addEventListener("playing", () => route.view === "live" && refresh(false));
byId("instruments-button").addEventListener("click", async () => {
  const { Instruments } = await import("./instruments/instruments.js");
  instruments ??= new Instruments(playback);
  if (instruments.isOpen) instruments.close();
  else instruments.open();
  byId("instruments-button").setAttribute("aria-expanded", String(instruments.isOpen));
});
addEventListener("hashchange", open);
document.addEventListener("visibilitychange", () => document.hidden || refresh(false));
open();

/** For tests and scripts: what plays now. Nothing here can be replaced. */
Object.defineProperty(window, "headwater", {
  value: Object.freeze({
    get hls() { return playback.engine?.hls ?? null; },
    get video() { return playback.video; },
    get audio() { return radio.audio; },
    stats: () => read(playback),
    seekable: () => playback.seekable,
    date: () => playback.dateAt(playback.video.currentTime),
    get analyser() { return radio.analyser; },
    radioLevel: () => radio.level(),
    events: () => events.stats(),
  }),
});
