// What the page remembers in this browser, as JSON in localStorage; forgotten with the page where that is forbidden.

const OWN = "headwater.";

/** Returns what is kept under a key, or `otherwise`. */
export function recall(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(OWN + key)) ?? otherwise;
  } catch {
    // Storage is not available, or its content is invalid.
    return otherwise;
  }
}

/** Keeps a value; returns whether there was room. */
export function keep(key, value) {
  try {
    localStorage.setItem(OWN + key, JSON.stringify(value));
    return true;
  } catch {
    // Storage is not available or full: the value is not kept.
    return false;
  }
}

export function forget(key) {
  try {
    localStorage.removeItem(OWN + key);
  } catch {
    // Storage is not available.
  }
}

/** Returns the keys that begin so, in their order, each with the number of characters of its value. */
export function keptKeys(prefix) {
  try {
    const own = Object.keys(localStorage).filter((key) => key.startsWith(OWN + prefix)).sort();
    return own.map((key) => ({ key: key.slice(OWN.length), size: localStorage.getItem(key)?.length ?? 0 }));
  } catch {
    return [];
  }
}

/** Calls `changed` with a key that another window of this browser has changed, or with null for all of them. */
export function onKept(changed) {
  addEventListener("storage", ({ key }) => {
    if (key === null) changed(null);
    else if (key.startsWith(OWN)) changed(key.slice(OWN.length));
  });
}
