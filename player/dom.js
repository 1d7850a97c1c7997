// Helpers of all views: making elements, updating keyed rows, formatting numbers, fetching JSON.

import { reasonOf } from "./refusal.js";

const REQUEST_TIMEOUT_MS = 8000;

/** Items of a page of a list, the most that the server answers with; the pages of a list that are fetched. */
const PAGE_ITEMS = 500;
const MOST_PAGES = 10;

export const byId = (id) => document.getElementById(id);

/** Returns the seconds of a time as addresses have it: seconds, MM:SS or HH:MM:SS. */
export const secondsOf = (text) => text.split(":").reduce((sum, part) => sum * 60 + Number(part), 0) || 0;

/** Makes an element. Children are nodes or strings; strings become text, never markup. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** Writes text only if it changed, so that screen readers and selections are not disturbed. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Keeps one row per item in `list`, by key, so that focus survives an update.
 * `make(item)` returns {node, update(item)}.
 */
export function syncRows(list, rows, items, keyOf, make) {
  const kept = new Set();
  items.forEach((item, index) => {
    const key = keyOf(item);
    kept.add(key);
    if (!rows.has(key)) rows.set(key, make(item));
    const row = rows.get(key);
    row.update(item);
    if (list.children[index] !== row.node) list.insertBefore(row.node, list.children[index] ?? null);
  });
  for (const [key, row] of rows) {
    if (kept.has(key)) continue;
    row.node.remove();
    rows.delete(key);
  }
}

/** Returns what marks a row's link as the one that is looked at, or no more. */
export function marker(link) {
  return (on) => (on ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current"));
}

let token = "";

/** Sets the admin token for further requests; it is only kept in memory. */
export const present = (given) => { token = given; };

export const presented = () => token;

/** The path of the token with which the page was opened, or the administrator's own, by which lists show more. */
let signed = location.pathname.match(/^\/t\/[^/]+/)?.[0] ?? "";

let isSharing = false;

/** The admin token by which it was tried to show everything. */
let tried = "";

/** Whether addresses can be given away: something is signed, and the admin token is known. */
export const mayShare = () => isSharing && Boolean(token);

/** What this page may show: {lists, owner, administrator}; null until the server has said it. */
let visitor = null;

/** Whether what concerns the owner is shown, such as how to publish. */
export const isOwner = () => Boolean(visitor?.owner);

/** Whether the server counts players whose tokens have names, and whether it prepares films, as it says to the administrator. */
export const countsViewers = () => Boolean(visitor?.counts_viewers);
export const preparesFilms = () => Boolean(visitor?.prepares_films);

/** The address at which others reach this page, with the token that it was opened with, and the server's own without it. */
export const pageUrl = () => visitor?.url ?? location.origin + signed;
export const serverUrl = () => pageUrl().replace(/\/t\/[^/]+$/, "");

/** Whether the admin token was given. */
export const isAdministrator = () => Boolean(visitor?.administrator);

/** Whether the lists of this server are for who looks at the page. */
export const hasLists = () => visitor?.lists ?? true;

/** Asks who looks at the page, once for each admin token. Returns what may be shown. */
export async function getVisitor() {
  const by = token;
  const found = visitor?.by === by ? visitor : { ...(await getList("/api/visitor")), by };
  if (by === token) visitor = found;
  return found;
}

/** Has the next `getVisitor` ask again: the server has answered otherwise than it had said. */
export const forgetVisitor = () => { visitor = null; };

const FOR_HOLDERS = "What is here is for those who were given an address with a token.";

/** Whether a view has something that its list doesn't show to who looks at the page: it needs a token. */
export const hides = (view) => Boolean(visitor?.hidden?.includes(view));

/** Whether event channels are made at run time. */
export const makesChannels = () => Boolean(visitor?.channels_at_run_time);

/** Says that a list is empty: to the owner what to do, to visitors the mere fact, and nothing to who isn't shown it. */
export function sayEmpty(node, items, view, toOwner, toVisitor) {
  node.hidden = items.length > 0 || !hasLists();
  say(node, hides(view) ? FOR_HOLDERS : isOwner() ? toOwner : toVisitor);
}

/** Address of one item of a list, which is answered to whoever knows it. */
export const itemAddress = (view, path) => `/api/item/${view}/${encodePath(path)}`;

/** Returns why a token of a signed address, which somebody was given, doesn't open an item; "" where it does. */
export async function refusalWith(given, address) {
  const headers = { accept: "application/json" };
  const answer = await fetch(`/t/${encodeURIComponent(given)}${address}`, { headers, signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
  // A folder is described by no item.
  const opens = answer.ok && ((await answer.json()).length > 0 || address.endsWith("/"));
  return opens ? "" : (!answer.ok && await reasonOf(answer)) || "This token doesn't open it.";
}

async function get(address, bearer = token, method = "GET", content = undefined) {
  // For JSON the server sends no Basic challenge, so that the page asks for the token and not the browser.
  const headers = { accept: "application/json", ...(bearer && { authorization: `Bearer ${bearer}` }) };
  const body = content && JSON.stringify(content);
  if (body) headers["content-type"] = "application/json";
  const target = address.startsWith("/api/") ? signed + address : address;
  const response = await fetch(target, { method, headers, body, signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
  if (!response.ok) {
    const reason = await reasonOf(response);
    const retryAfter = Number(response.headers.get("retry-after")) || 0;
    throw Object.assign(new Error(`${address}: ${response.status}`), { status: response.status, reason, retryAfter });
  }
  return response;
}

export async function getList(address) {
  return (await get(address)).json();
}

/** Fetches JSON that needs the admin token, which isn't kept. */
export async function getWithToken(address, given, method) {
  return (await get(address, given, method)).json();
}

/** Has the server change something with the admin token. */
export const send = (address, method) => get(address, token, method);

/** Has the server make or change something that is described, with the admin token; returns how it is now. */
export const put = async (address, content) => (await get(address, token, "PUT", content)).json();

/** Makes an address to give away, by the admin token. */
export const sign = async (wanted) => (await get("/api/sign", token, "POST", wanted)).json();

/**
 * Has lists and players show everything to the administrator, where some of it is only for those with a token; tries so
 * once for an admin token. Returns whether lists show more now.
 */
export async function unlock() {
  if (!token || tried === token) return false;
  tried = token;
  isSharing = false;
  try {
    if (!(await getList("/api/sign")).signed) return false;
    signed = `/t/${(await sign({ path: "/", for: "12h", clips: true })).token}`;
    isSharing = true;
  } catch {
    // The token is wrong, as the answer to what needs it says.
  }
  return isSharing;
}

/** Fetches a page of a list, with the header fields that tell its place. */
export async function getPage(address) {
  const response = await get(address);
  return { items: await response.json(), headers: response.headers };
}

/** Fetches the pages of a list, and returns their items. */
export async function getAll(address) {
  const items = [];
  let next = `${address}?limit=${PAGE_ITEMS}`;
  for (let pages = 0; next && pages < MOST_PAGES; pages += 1) {
    const page = await getPage(next);
    items.push(...page.items);
    next = nextPage(page.headers);
  }
  return items;
}

/** The address of a list's next page, as header fields name it; undefined for none. */
export const nextPage = (headers) => headers.get("link")?.match(/<([^>]*)>; rel="next"/)?.[1];

/** Copies a field's text, which is selected; returns false where a page has no clipboard, as on other machines without HTTPS. */
export async function copied(input) {
  input.select();
  try {
    await navigator.clipboard.writeText(input.value);
    return true;
  } catch {
    return false;
  }
}

/** Formats a length or a position; a position a little before the beginning is the beginning. */
export function clock(seconds) {
  if (!Number.isFinite(seconds)) return "";
  const whole = Math.max(Math.round(seconds), 0);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (parts[0] === 0) parts.shift();
  return parts.map((part, index) => (index ? String(part).padStart(2, "0") : part)).join(":");
}

const scaled = (value, units, unit) => {
  let index = 0;
  while (value >= 1000 && index < units.length - 1) [value, index] = [value / 1000, index + 1];
  return `${value.toFixed(index && value < 100 ? 1 : 0)} ${units[index]}${unit}`;
};
export const bytes = (value) => scaled(value, ["", "k", "M", "G", "T"], "B");
export const bits = (value) => scaled(value, ["", "k", "M", "G"], "bit/s");
export const count = (value, one, many) => `${value} ${String(value) === "1" ? one : many}`;

/** Encodes a path for the address bar, keeping its slashes. */
export const encodePath = (path) => path.split("/").map(encodeURIComponent).join("/");
