// Why the server refused something, in its own words: the line of an answer that is no success, or the message of one
// in JSON. Where the server has said nothing, the page says what it knows by the status.

const MOST_BYTES = 8192;
const MOST_CHARACTERS = 400;
const TIMEOUT_MS = 8000;

/** Words with capitals alone, which are a status's own phrase and no reason. */
const PHRASE = /^(?:[A-Z][a-z]+[ -]?)+$/;

/** Writes a line as a sentence; a name of the configuration at its beginning stays as it is. */
export function sentence(line) {
  const begun = /^[a-z][a-z']*[ ,:;]/.test(line) ? line[0].toUpperCase() + line.slice(1) : line;
  return line && `${begun}${/[.!?:…]$/.test(line) ? "" : "."}`;
}

/** Returns the lines of an answer that is no success, the reason first; none where the server says none. */
export async function linesOf(response) {
  const type = response.headers.get("content-type") ?? "";
  if (!/^(?:text\/plain|application\/(?:problem\+)?json)/.test(type)) return [];
  const text = (await readBounded(response).catch(() => "")).trim();
  return (type.startsWith("text/") ? text : messageIn(text)).split("\n").filter((line) => line && !PHRASE.test(line));
}

/** Returns the reason of an answer that is no success, as a sentence; "" where the server says none. */
export const reasonOf = async (response) => sentence(((await linesOf(response))[0] ?? "").slice(0, MOST_CHARACTERS));

/** Returns the status of the answer to an address, 0 without an answer, and the lines with which it is refused. */
export async function lookAt(address) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), TIMEOUT_MS);
  // For JSON the server sends no Basic challenge, which would open the browser's own dialog.
  const options = { signal: abort.signal, headers: { accept: "application/json" } };
  try {
    const head = await fetch(address, { ...options, method: "HEAD" });
    // The answer to HEAD has no line; that to GET may be a film, where all is well meanwhile.
    const answer = head.ok ? head : await fetch(address, options);
    return { status: answer.status, lines: answer.ok ? [] : await linesOf(answer) };
  } catch {
    return { status: 0, lines: [] };
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
}

/** Returns as `lookAt` what an answer was of which hls.js and Shaka report the status alone. */
export const lookAgain = async (status, address) => (status >= 400 && status < 500 ? lookAt(address) : { status, lines: [] });

/** Says why an answer's status lets nothing be played, by the server's own reason; "" where a later try may help. */
export function refusalOf({ status, lines }) {
  const isRefused = status >= 400 && status < 500 && status !== 404;
  const [reason = ""] = lines;
  if ([401, 403].includes(status)) return sentence(`Not allowed: ${reason || "this needs a token that is valid for it now"}`);
  return isRefused ? sentence(reason.slice(0, MOST_CHARACTERS)) : "";
}

async function readBounded(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (text.length < MOST_BYTES) {
    const { done, value } = await reader.read();
    if (done) return text;
    text += value;
  }
  await reader.cancel();
  return text;
}

function messageIn(text) {
  try {
    const { error, detail } = JSON.parse(text);
    return String(error?.message ?? error ?? detail ?? "");
  } catch {
    return "";
  }
}
