// The administrator's forms for channels and stations: made, changed and removed while the server runs, by its own schema.

import { copied, el, getList, isAdministrator, isOwner, put, say, send, serverUrl, syncRows } from "../dom.js";

const WORDS = {
  live: { title: "Channels of this server", add: "Add a channel", one: "channel" },
  radio: { title: "Stations of this server", add: "Add a station", one: "station" },
};

/** The keys that most need; the others are folded up. */
const FIRST = {
  live: ["name", "source", "ladder", "dvr", "record", "access", "publish_key"],
  radio: ["name", "title", "source", "dvr", "record", "access", "source_password"],
};

/** What a field is filled with where a new table has no value of its own. */
const PROPOSED = { source: "publish" };

const MADE = { publish_key: true, source_password: true };
const NO_ANSWER = "The server doesn't answer.";

export class Tables {
  #section;
  #address;
  #fields = new Map();
  #rows = new Map();
  #list = el("ul", { class: "rows" });
  #add = el("button", { type: "button", class: "plain", click: () => this.#edit(null) });
  #form = el("form", { hidden: true, novalidate: true });
  #heading = el("h3", {});
  #first = el("div", { class: "fields" });
  #more = el("details", {}, el("summary", {}, "More"));
  #others = el("div", { class: "fields" });
  #said = el("p", { class: "status", role: "alert" });
  #done = el("p", { class: "quiet", role: "status" });
  #secret = el("input", { readonly: true, "aria-label": "Password of source clients" });
  #secretBox = el("p", { class: "password", hidden: true });
  /** The name of the table that is edited; "" for a new one. */
  #edited = "";

  /** Called with a sentence where the admin token is needed. */
  onUnauthorized = () => {};

  /** @param section live or radio; onMade called with the name and the answer for a table that was made or changed */
  constructor(section, onMade) {
    this.#section = section;
    this.#address = `/api/${section}`;
    this.onMade = onMade;
    const words = WORDS[section];
    say(this.#add, words.add);
    this.#more.append(this.#others);
    const cancel = el("button", { type: "button", class: "plain", click: () => this.#close() }, "Cancel");
    this.#form.append(this.#heading, this.#first, this.#more, this.#said, el("div", { class: "password" }, el("button", { type: "submit" }, "Save"), cancel));
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save();
    });
    const copy = el("button", { type: "button", click: () => copied(this.#secret) }, "Copy");
    this.#secretBox.append(this.#secret, copy);
    this.node = el("details", { class: "operator tables", hidden: true, toggle: () => this.#opened() },
      el("summary", {}, words.title), this.#list, this.#add, this.#form, this.#secretBox, this.#done);
  }

  /** Shows the forms to the owner, who is asked for the admin token where it isn't known yet. */
  update() {
    this.node.hidden = !isOwner() && !isAdministrator();
    this.#list.hidden = this.#add.hidden = !isAdministrator();
    if (this.node.open && isAdministrator() && !this.#fields.size) this.#load();
  }

  #opened() {
    if (!this.node.open) return;
    if (isAdministrator()) this.#load();
    else this.onUnauthorized("Channels and stations are made with the admin token.");
  }

  async #load() {
    try {
      if (!this.#fields.size) this.#makeFields(await getList(`${this.#address}?schema`));
      const tables = await getList(`${this.#address}?configuration&limit=500`);
      syncRows(this.#list, this.#rows, tables, ({ name }) => name, (table) => this.#row(table));
      this.#list.hidden = tables.length === 0;
      this.#add.hidden = !this.#form.hidden;
    } catch (error) {
      say(this.#done, error.reason || NO_ANSWER);
    }
  }

  #row(first) {
    let table = first;
    const where = el("span", { class: "quiet" });
    const edit = el("button", { type: "button", class: "plain", "aria-label": `Change ${table.name}`, click: () => this.#edit(table) }, "Change");
    const remove = el("button", { type: "button", class: "plain", click: () => this.#remove(table.name, remove) });
    const node = el("li", {}, el("b", {}, table.name), where, edit, remove);
    return {
      node,
      update: (now) => {
        table = now;
        say(where, table.made ? String(table.options.source ?? "") : "in the server’s file");
        edit.hidden = remove.hidden = !table.made;
        say(remove, "Remove");
        remove.setAttribute("aria-label", `Remove ${table.name}`);
      },
    };
  }

  #makeFields(schema) {
    for (const [key, kind] of Object.entries(schema)) {
      const field = new Field(key, kind);
      this.#fields.set(key, field);
      (FIRST[this.#section].includes(key) ? this.#first : this.#others).append(field.node);
    }
  }

  /** @param table to be changed; null for a new one */
  #edit(table) {
    this.#edited = table?.name ?? "";
    say(this.#heading, table ? `Change ${table.name}` : WORDS[this.#section].add);
    for (const [key, field] of this.#fields) field.fill(table ? table.options[key] : undefined, !table);
    this.#fields.get("name").isFixed = Boolean(table);
    this.#tell("");
    say(this.#done, "");
    this.#secretBox.hidden = true;
    this.#form.hidden = false;
    this.#add.hidden = true;
    (this.#fields.get(table ? "source" : "name")).focus();
  }

  #close() {
    this.#form.hidden = true;
    this.#add.hidden = false;
    this.#add.focus();
  }

  async #save() {
    const table = {};
    for (const [key, field] of this.#fields) {
      const value = field.value;
      if (value !== undefined) table[key] = value;
    }
    const name = this.#edited || String(table.name ?? "");
    if (!name) {
      this.#tell("name: is needed");
      return;
    }
    try {
      const made = await put(`${this.#address}/${encodeURIComponent(name)}`, table);
      this.#close();
      say(this.#done, `${name} is there.`);
      this.#showSecret(made, table);
      this.onMade(name, made);
      await this.#load();
    } catch (error) {
      this.#tell(error.reason || NO_ANSWER);
    }
  }

  /** Shows the password that was generated for a station; a channel's key is shown with what OBS needs. */
  #showSecret(made, table) {
    const isNew = made.source_password && made.source_password !== table.source_password;
    this.#secretBox.hidden = !isNew;
    if (!isNew) return;
    this.#secret.value = made.source_password;
    say(this.#done, `${made.name} is there. Source clients send to ${new URL(serverUrl()).host}/radio/${made.name} as “source”, with this password:`);
  }

  async #remove(name, button) {
    const asks = `Remove ${name} for good`;
    if (button.textContent !== asks) {
      say(button, asks);
      return;
    }
    try {
      await send(`${this.#address}/${encodeURIComponent(name)}`, "DELETE");
      say(this.#done, `${name} was removed. What it has recorded stays on the server’s disk.`);
      this.onMade("", null);
    } catch (error) {
      say(this.#done, error.reason || NO_ANSWER);
    }
    await this.#load();
  }

  /** Says the server's reason at the field that it is about, or below all. */
  #tell(reason) {
    const keys = [...this.#fields.keys()].filter((key) => new RegExp(`(^|[\\s.])${key}(?=:| of )`).test(reason));
    const about = keys.length ? this.#fields.get(keys.sort((a, b) => b.length - a.length)[0]) : undefined;
    for (const field of this.#fields.values()) field.fault = field === about ? reason : "";
    say(this.#said, about ? "" : reason);
    if (!about) return;
    if (this.#others.contains(about.node)) this.#more.open = true;
    about.focus();
  }
}

/** Sorts renditions from the largest on, the source's own first. */
const fromLargest = (a, b) => (Number.parseInt(b, 10) || Infinity) - (Number.parseInt(a, 10) || Infinity);

/** A key of a table: its label, its input by the schema's type, and its fault. */
class Field {
  #key;
  #kind;
  #fault = el("span", { class: "status", role: "alert" });
  #inputs = [];

  constructor(key, schema) {
    this.#key = key;
    // What may be absent is described beside null.
    const kind = schema.anyOf?.find((one) => one.type !== "null") ?? schema;
    this.#kind = { ...kind, default: schema.default };
    const id = `table-${key}-${Math.random().toString(36).slice(2)}`;
    this.#fault.id = `${id}-fault`;
    const name = key.replaceAll("_", " ");
    const label = name[0].toUpperCase() + name.slice(1);
    if (kind.items?.enum) {
      const values = kind.items.enum.map(String).sort(fromLargest);
      this.#inputs = values.map((value) => el("input", { type: "checkbox", value }));
      const boxes = this.#inputs.map((input) => el("label", {}, input, input.value));
      this.node = el("fieldset", { class: "field" }, el("legend", {}, label), ...boxes, this.#fault);
      return;
    }
    const input = this.#makeInput(kind);
    input.id = id;
    input.setAttribute("aria-describedby", this.#fault.id);
    this.#inputs = [input];
    this.node = el("div", { class: "field" }, el("label", { for: id }, label), input, this.#fault);
  }

  #makeInput(kind) {
    if (kind.enum) return el("select", {}, ...kind.enum.map((value) => el("option", { value: String(value) }, String(value))));
    if (kind.type === "boolean") return el("input", { type: "checkbox" });
    const hint = MADE[this.#key] ? "made where this is empty" : kind.description ?? "";
    const number = kind.type === "number" || kind.type === "integer";
    return el("input", { type: number ? "number" : "text", step: number && "any", title: hint, placeholder: MADE[this.#key] && hint, autocomplete: "off", spellcheck: "false" });
  }

  set isFixed(is) {
    for (const input of this.#inputs) input.disabled = is;
  }

  set fault(text) {
    say(this.#fault, text);
    for (const input of this.#inputs) input.toggleAttribute("aria-invalid", Boolean(text));
  }

  focus() {
    this.#inputs[0].focus();
  }

  /** Writes a value, the default where it is undefined. */
  fill(given, isNew) {
    const value = given ?? (isNew ? PROPOSED[this.#key] : undefined) ?? this.#kind.default ?? "";
    this.fault = "";
    if (this.#kind.items?.enum) for (const input of this.#inputs) input.checked = value.map(String).includes(input.value);
    else if (this.#kind.type === "boolean") this.#inputs[0].checked = Boolean(value);
    else this.#inputs[0].value = Array.isArray(value) ? value.join(", ") : String(value);
  }

  /** What the field says; undefined for what is the default. */
  get value() {
    const value = this.#read();
    const usual = this.#kind.default ?? "";
    return JSON.stringify(value) === JSON.stringify(usual) ? undefined : value;
  }

  #read() {
    const [input] = this.#inputs;
    const kind = this.#kind;
    if (kind.items?.enum) {
      return this.#inputs.filter((one) => one.checked).map((one) => one.value);
    }
    if (kind.type === "boolean") return input.checked;
    if (kind.type === "array") {
      const items = input.value.split(",").map((one) => one.trim()).filter(Boolean);
      return kind.items.type === "integer" ? items.map(Number) : items;
    }
    const isNumber = kind.type === "number" || kind.type === "integer" || typeof kind.enum?.[0] === "number";
    return isNumber && input.value !== "" ? Number(input.value) : input.value;
  }
}
