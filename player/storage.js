// What the page remembers in this browser, as JSON in localStorage; forgotten with the page where that is forbidden.

/** Returns what is kept under a key, or `otherwise`. */
export function recall(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`headwater.${key}`)) ?? otherwise;
  } catch {
    // Storage is not available, or its content is invalid.
    return otherwise;
  }
}

export function keep(key, value) {
  try {
    localStorage.setItem(`headwater.${key}`, JSON.stringify(value));
  } catch {
    // Storage is not available or full: the value is not kept.
  }
}
