// Whether the chosen film is encoded ahead of time, for who has given the admin token: how far it is, and a button that
// begins and ends it.

import { byId, clock, encodePath, getList, preparesFilms, say, send } from "../dom.js";

const SOON_MS = 2000;
const LATER_MS = 30000;

/** What is said of each state, and what the button does. */
const STATES = {
  "": ["", "Prepare"],
  waiting: ["Waits to be prepared", "Don't prepare"],
  encoding: ["Is being prepared", "Stop preparing"],
  prepared: ["Prepared", "Take back"],
  failed: ["Couldn't be prepared", "Prepare again"],
};

export class Preparation {
  /** Called when the server doesn't know the token. */
  onUnauthorized = () => {};
  #path = "";
  #state = "";
  #timer = 0;
  /** How often the server was asked: an answer counts until the next question. */
  #asked = 0;

  constructor() {
    byId("prepare").addEventListener("click", () => this.#refresh(["", "failed"].includes(this.#state) ? "PUT" : "DELETE"));
  }

  /** Shows how far a film is, the same one by default, where it can be prepared; "" shows nothing. */
  show(path = this.#path) {
    if (path !== this.#path) this.#write(null);
    this.#path = path;
    this.#refresh();
  }

  async #refresh(method) {
    clearTimeout(this.#timer);
    this.#asked += 1;
    const [path, asked] = [this.#path, this.#asked];
    if (!path || !preparesFilms()) return;
    const address = `/api/prepared/${encodePath(path)}`;
    let next = LATER_MS;
    let refused = "";
    try {
      if (method) {
        await send(address, method).catch((error) => {
          if (error.status === 401) throw error;
          refused = error.reason;
        });
      }
      const film = document.hidden ? null : await getList(address);
      const all = film && isUnderWay(film) ? await getList("/api/prepared") : null;
      if (asked !== this.#asked) return;
      if (film) this.#write(film, all, refused);
      if (isUnderWay({ state: this.#state })) next = SOON_MS;
    } catch (error) {
      if (asked !== this.#asked) return;
      if (error.status === 401) this.onUnauthorized();
      if (error.status < 500) {
        this.#write(null);
        return;
      }
    }
    this.#timer = setTimeout(() => this.#refresh(), next);
  }

  /** @param all the list of all prepared films, while one of them is under way */
  #write(film, all = null, refused = "") {
    byId("preparation").hidden = !film?.segments;
    this.#state = film?.state ?? "";
    const [words, action] = STATES[this.#state];
    const reason = refused || film?.reason;
    say(byId("preparation-state"), [words, reason].filter(Boolean).join(": "));
    say(byId("prepare"), action);
    byId("preparation-progress").hidden = byId("preparation-left").hidden = !all;
    if (!all) return;
    const films = all.films.filter(isUnderWay);
    byId("preparation-progress").value = shareOf([film]);
    say(byId("preparation-left"), [
      percent([film]),
      film.speed && `${film.speed.toFixed(1)} × real time`,
      left(film),
      films.length > 1 && `all ${films.length} films: ${[percent(films), left(all)].filter(Boolean).join(", ")}`,
    ].filter(Boolean).join(" · "));
  }
}

const isUnderWay = ({ state }) => ["waiting", "encoding"].includes(state);
const left = ({ seconds_left: seconds }) => seconds && `${clock(seconds)} left`;
const percent = (films) => `${Math.floor(100 * shareOf(films))} %`;

/** How much of some films is encoded, from 0 to 1. */
function shareOf(films) {
  const [encoded, segments] = ["encoded_segments", "segments"].map((name) => films.reduce((sum, film) => sum + film[name], 0));
  return segments && encoded / segments;
}
