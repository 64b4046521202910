// Allowing, deleting, undoing: each is shown before it is made, in the agent's own words.

import { get, post } from "./ask.js";
import { button, byId, counted, el, failure, moment, table } from "./elements.js";
import { isApp } from "./world.js";

const DAY = 86_400; // seconds

export class ChangesView {
  constructor(world, panel, { changed }) {
    Object.assign(this, { world, panel, changed });
  }

  allow({ from = "", to = "", port = "" } = {}) {
    const names = el("datalist", { id: "names" }, this.world.apps.map((each) => el("option", { value: each.app })));
    const field = (label, value, given = {}) => el("input", { value, required: true, autocomplete: "off", spellcheck: "false", name: label, ...given });
    const [source, target] = [field("from", from, { list: "names" }), field("to", to, { list: "names" })];
    const [ports, note] = [field("ports", port, { placeholder: "tcp/8080, udp/53" }), field("note", "", { required: false })];
    const body = () => ({ from: source.value.trim(), to: target.value.trim(), ports: ports.value.split(/[\s,]+/).filter(Boolean), note: note.value.trim() });
    const place = el("div", { "aria-live": "polite" });
    const show = el("button", { class: "first", type: "submit" }, "Show what it changes");
    const form = el("form", { class: "allow", onsubmit: (event) => (event.preventDefault(), this.#preview(place, "changes/preview", body(), "Allow it", () => post("changes", body()))), oninput: () => place.replaceChildren() }, el("label", {}, "From", source), el("label", {}, "To", target), el("label", {}, "Ports", ports), el("label", {}, "Note, why it is there (optional)", note), show, names);
    this.panel.put("Allow a connection", form, place);
    (from ? (to ? ports : target) : source).focus();
  }

  remove(name) {
    const place = el("div", { "aria-live": "polite" });
    this.panel.put(`Delete ${name}`, place);
    this.#preview(place, "changes/preview", { delete: name }, "Delete it", () => post("changes", { delete: name }));
  }

  undo(change) {
    const place = el("div", { "aria-live": "polite" });
    this.panel.put(`Undo: ${words(change)}`, place);
    this.#preview(place, `changes/${change.number}/preview`, {}, "Undo it", () => post(`changes/${change.number}/undo`));
  }

  async #preview(place, address, body, word, act) {
    place.replaceChildren(el("p", { class: "soft" }, "looking …"));
    try {
      const found = await post(address, body);
      const go = button(word, () => this.#make(place, go, act), { class: "first", disabled: !this.world.mayChange });
      place.replaceChildren(diff(found), el("div", { class: "acts" }, go, button("Leave it", () => this.panel.acts.nothing())), this.world.mayChange ? "" : el("p", { class: "soft" }, "Only root may change policies: sudo cellnet ui"));
      go.focus();
    } catch (error) {
      place.replaceChildren(failure(error));
    }
  }

  async #make(place, go, act) {
    go.disabled = true;
    try {
      const made = await act();
      const undo = button("Undo", () => this.undo(made));
      place.replaceChildren(el("p", { class: "verdict yes", role: "status" }, `Done: ${words(made)}`), diff(made.diff), el("div", { class: "acts" }, undo));
      undo.focus();
      await this.changed();
    } catch (error) {
      go.disabled = false;
      place.querySelector(".error")?.remove();
      place.append(failure(error));
    }
  }

  async list() {
    const place = byId("changes");
    try {
      const [found, history] = await Promise.all([get("changes"), get("history", { since: DAY, most: 500 })]);
      const rows = found.map((each) => [moment(each.at), words(each), diff(each.diff), each.undone ? "undone" : button("Undo…", () => this.undo(each), { disabled: !this.world.mayChange })]);
      const events = history.events.reverse().map((each) => [moment(each.at), each.area, el("span", { class: "lines" }, each.what), each.by ? `${each.by.command} (uid ${each.by.uid}, pid ${each.by.pid})` : "–"]);
      place.replaceChildren(table("Changes made here", ["At", "What", "What it did", ""], rows, "No policy was changed on this page yet. "), table("What happened on this cell within a day", ["At", "Area", "What", "By"], events, "Nothing is recorded of the last day."));
    } catch (error) {
      place.replaceChildren(failure(error));
    }
  }
}

const words = ({ kind, name }) => `${{ allow: "allowed by", delete: "deleted", undo: "undone" }[kind]} ${name}`;

function diff(found) {
  const line = (kind, text) => el("li", { class: kind }, text);
  const pair = (each) => `${each.from} → ${each.to}  ${each.ports.join(", ")}${each.mode ? ` (${each.mode})` : ""}`;
  const lines = [
    ...found.removed.map((each) => line("less", `− policy ${each.name}`)),
    ...found.added.map((each) => line("more", `+ policy ${each.name}`)),
    ...found.opens.map((each) => line("more", `+ ${pair(each)}`)),
    ...found.closes.map((each) => line("less", `− ${pair(each)}`)),
  ];
  if (!found.removed.length && !found.added.length) lines.push(line("soft", "nothing changes"));
  else if (!found.opens.length && !found.closes.length) lines.push(line("soft", "nobody may reach more or less than before"));
  const { count, lines: cut, other_cells: unseen } = found.cuts;
  if (count) lines.push(line("less", `cuts ${counted(count, "live connection")} of this cell:`), ...cut.map((each) => line("less", each)));
  if (found.closes.length && unseen) lines.push(line("soft", `what it cuts on ${counted(unseen, "other cell")} is not seen here`));
  if (found.more) lines.push(line("soft", `${counted(found.more, "pair")} of apps besides were not compared`));
  return [el("ul", { class: "diff" }, lines), found.notices.map((each) => el("p", { class: "notice" }, each))].flat().reduce((all, each) => (all.append(each), all), el("div"));
}

// Two apps, one after the other, on the map.
export class Picking {
  #from = null;
  #done = null;

  constructor(map) {
    this.map = map;
  }

  begin(from, done) {
    this.#from = from;
    this.#done = done;
    this.map.picking = true;
    byId("frame").classList.add("picking");
    this.#say();
  }

  end() {
    this.map.picking = false;
    byId("frame").classList.remove("picking");
    byId("hint").hidden = true;
  }

  take(name) {
    if (!isApp(name)) return;
    if (this.#from === null) {
      this.#from = name;
      this.map.choose(name);
      this.#say();
    } else {
      this.end();
      this.#done({ from: this.#from, to: name });
    }
  }

  #say() {
    byId("hint").hidden = false;
    byId("hint").textContent = byId("live").textContent = this.#from === null ? "Choose the app that calls. Escape ends it." : `What may ${this.#from} reach? Escape ends it.`;
  }
}
