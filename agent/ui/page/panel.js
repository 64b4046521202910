// Beside the map: the cell as a whole, one app, or one pair of apps with the reasons why they can connect or cannot.

import { get, post } from "./ask.js";
import { button, counted, el, failure, moment, octets } from "./elements.js";
import { denialLine } from "./refusals.js";
import { isApp, keyOf, short } from "./world.js";

const SHOWN = 12;

export class Panel {
  shown = null; // what it is about: {app}, {from, to, port}, or null for the cell
  #turn = 0;

  constructor(element, world, acts) {
    Object.assign(this, { element, world, acts });
  }

  // What changes by itself is drawn again; what the reader is in the middle of is not.
  refresh() {
    if (this.shown === null) this.cell();
    else if (this.shown.app && !this.element.contains(document.activeElement)) this.app(this.shown.app);
  }

  cell() {
    this.shown = null;
    this.#turn += 1;
    const { status, apps, policies, denials } = this.world;
    if (!status) return;
    const focused = this.element.contains(document.activeElement) ? document.activeElement.dataset.at : null;
    const lately = status.denied.last_minute;
    this.#put(
      el("h2", {}, "This cell"),
      figures([
        ["apps", apps.length], ["policies", policies.length], ["instances here", status.cell.attachments],
        ["refused, last minute", lately, lately > 0 && "bad"], ["flows", this.world.flows.length], ["problems", status.problems.length, status.problems.length > 0 && "bad"],
      ]),
      status.problems.length > 0 && [el("h3", {}, "Problems"), el("ul", { class: "problems" }, status.problems.map(problem))],
      el("h3", {}, "Refused lately"),
      denials.length
        ? el("ul", { class: "plain denials" }, denials.slice(0, SHOWN).map((each) => el("li", {}, denialLine(each, () => this.acts.edge(each.from, each.to), `denial-${each.number}`))))
        : el("p", { class: "soft" }, "Nothing was refused since this page is open and shortly before."),
      this.world.mayChange || el("p", { class: "soft" }, "You may look. Changes need root: sudo cellnet ui"),
    );
    if (focused) this.element.querySelector(`[data-at="${focused}"]`)?.focus();
  }

  app(name) {
    this.shown = { app: name };
    this.#turn += 1;
    const found = this.world.app(name);
    const edges = [...this.world.edges(Date.now()).values()];
    const to = edges.filter((each) => each.from === name);
    const from = edges.filter((each) => each.to === name);
    this.#put(
      this.#top(name),
      isApp(name) && el("div", { class: "acts" }, button("Allow it to reach…", () => this.acts.pick(name), { disabled: !this.world.mayChange }), button("Check a connection…", () => this.acts.check(name))),
      found && [
        el("h3", {}, counted(found.instances.length, "instance")),
        el("ul", { class: "plain" }, found.instances.map((each) => el("li", {}, `${each.name} `, el("span", { class: each.ready ? "good" : "bad" }, each.ready ? "ready" : "not ready"), el("span", { class: "soft" }, `${each.address} on ${each.cell}${each.ports.length ? `, ports ${each.ports.join(", ")}` : ""}${each.routes.length ? `, ${each.routes.join(", ")}` : ""}`)))),
      ],
      !found && isApp(name) && el("p", { class: "soft" }, "Nothing of it runs; it is named by a policy or was refused."),
      !isApp(name) && el("p", { class: "soft" }, "No app has this address or name."),
      this.#neighbours("May reach, or tries to", to, "to"),
      this.#neighbours("Is reached by", from, "from"),
    );
  }

  #neighbours(title, edges, end) {
    if (!edges.length) return [el("h3", {}, title), el("p", { class: "soft" }, "nothing")];
    const words = (each) => [each.ports.length ? each.ports.join(", ") : each.trial.length ? `on trial ${each.trial.join(", ")}` : "not allowed", each.flows ? counted(each.flows, "live connection") : "", each.elsewhere ? `${each.elsewhere} on other cells` : "", each.refused ? `refused ${[...each.refused.ports.keys()].join(", ")}` : ""].filter(Boolean).join("; ");
    return [el("h3", {}, title), el("ul", { class: "plain" }, edges.slice(0, 200).map((each) => el("li", {}, button(each[end], () => this.acts.edge(each.from, each.to), { class: "link" }), el("span", { class: each.refused ? "bad" : "soft" }, words(each)))))];
  }

  async edge(from, to, port) {
    const edge = this.world.edges(Date.now()).get(keyOf(from, to));
    const refused = edge?.refused ? [...edge.refused.ports.keys()] : [];
    const open = (edge?.ports ?? []).filter((each) => !each.includes("-") && !each.endsWith("/any"));
    const wide = (edge?.ports ?? []).filter((each) => !open.includes(each));
    const flows = this.world.flows.filter((each) => each.from === from && each.to === to);
    const ports = [...new Set([...refused, ...open, ...flows.map((each) => `${each.protocol}/${each.port}`)])];
    const asked = port ?? ports[0] ?? first(wide) ?? "tcp/8080";
    this.shown = { from, to, port: asked };
    const turn = ++this.#turn;
    const place = el("div", { "aria-live": "polite" }, el("p", { class: "soft" }, "looking …"));
    this.#put(
      this.#top(`${short(from)} → ${short(to)}`),
      el("p", { class: "soft" }, `${from} → ${to}`),
      edge?.ports.length ? el("p", {}, "Policies allow ", el("b", {}, edge.ports.join(", "))) : el("p", {}, "No policy allows it."),
      edge?.trial.length > 0 && el("p", {}, "On trial (mode: audit) are ", el("b", {}, edge.trial.join(", "))),
      el("div", { class: "ports", role: "group", "aria-label": "Ports" }, ports.slice(0, 40).map((each) => button(each, () => this.edge(from, to, each), { "aria-pressed": String(each === asked), class: refused.includes(each) ? "refused" : "" })), this.#other(from, to)),
      place,
      flows.length > 0 && [el("h3", {}, "Live now"), el("ul", { class: "plain" }, flows.slice(0, 20).map((each) => el("li", {}, `${each.protocol}/${each.port} ${each.state ?? ""}`, el("span", { class: "soft" }, flowWords(each)))))],
    );
    try {
      const query = { from, to, port: asked };
      const [explained, check] = await Promise.all([get("explain", query), get("policies/check", query)]);
      if (turn === this.#turn) place.replaceChildren(...this.#explained(query, explained, check));
    } catch (error) {
      if (turn === this.#turn) place.replaceChildren(failure(error));
    }
  }

  #other(from, to) {
    const input = el("input", { "aria-label": "Another port", placeholder: "tcp/…", size: 9 });
    return el("form", { onsubmit: (event) => (event.preventDefault(), input.value.trim() && this.edge(from, to, input.value.trim())) }, input);
  }

  #explained(query, explained, check) {
    const policy = check.allowed && this.world.policies.find((each) => each.name === check.by && placeOf(each) === check.origin);
    return [
      this.#verdict(query, explained),
      check.allowed && [
        el("h3", {}, "Policy"),
        el("p", { class: "policy" }, el("b", {}, check.by), el("br"), el("span", { class: "soft" }, check.origin === "store" ? "in the store" : check.origin)),
        policy && el("pre", {}, written(policy)),
        policy?.origin.source === "store" && el("div", { class: "acts" }, button("Delete this policy…", () => this.acts.remove(check.by), { disabled: !this.world.mayChange })),
      ],
      !check.allowed && el("div", { class: "acts" }, button(`Allow ${query.port}…`, () => this.acts.allow(query), { class: "first", disabled: !this.world.mayChange })),
    ].flat().filter(Boolean);
  }

  #verdict(query, { steps, works }) {
    const made = el("div", {});
    const [kind, words] = verdict(steps, works);
    const call = button("Call for real", async () => {
      call.disabled = true;
      const found = await post("explain/try", query).then((said) => this.#verdict(query, said), failure);
      made.replaceWith(found);
    }, { disabled: !this.world.mayChange, title: "A connection from inside the source, by root alone" });
    made.append(
      el("p", { class: `verdict ${kind}`, role: "status" }, `${query.port}: ${words}`),
      el("ol", { class: "steps" }, steps.map((each) => el("li", { class: each.ok === null ? "open" : each.ok ? "yes" : "no" }, `${each.name}: ${each.what}`, each.hint && el("small", {}, each.hint)))),
      isApp(query.from) ? el("div", { class: "acts" }, call) : "",
    );
    return made;
  }

  put(title, ...children) {
    this.shown = { form: title };
    this.#turn += 1;
    this.#put(this.#top(title), ...children);
  }

  #top(title) {
    return el("div", { class: "top" }, el("h2", { tabindex: "-1" }, title), button("×", () => this.acts.nothing(), { "aria-label": "Close" }));
  }

  #put(...children) {
    this.element.replaceChildren(...children.flat(3).filter((each) => each && each !== true));
  }

  focus() {
    this.element.querySelector("h2")?.focus({ preventScroll: true });
  }
}

const figures = (rows) => el("dl", { class: "figures" }, rows.map(([name, value, kind]) => el("div", { class: kind || null }, el("dt", {}, name), el("dd", { "data-figure": name }, value))));

export const problem = (each) => el("li", {}, el("b", {}, `${each.area}: `), each.what, each.hint && el("span", { class: "soft" }, `\n${each.hint}`));

export const placeOf = ({ origin }) => (origin.line === null ? origin.source : `${origin.source}:${origin.line}`);

// As `cellnet explain` says it.
function verdict(steps, works) {
  const open = (name) => steps.some((each) => each.name === name && each.ok === null);
  if (!works) return ["no", "It does not work"];
  if (open("try")) return ["", "Nothing refused it"];
  const tried = steps.some((each) => each.name === "try");
  return !tried && open("listener") ? ["", "Nothing that is seen on this cell stands in the way"] : ["yes", "It works"];
}

const first = ([each]) => each && each.replace(/any$/, "8080").replace(/-\d+$/, "");

const flowWords = (each) => [each.sent === null ? "" : `${octets(each.sent)} sent, ${octets(each.received)} received`, each.seconds === null ? "" : `${each.seconds} s`, `from port ${each.from_port}`, each.policy ? `by ${each.policy}` : each.origin].filter(Boolean).join("; ");

// As a policy file has it.
export function written(policy) {
  const list = (each) => (each.length === 1 ? each[0] : `[${each.join(", ")}]`);
  const end = (each) => (Array.isArray(each) ? list(each) : typeof each === "string" ? each : JSON.stringify(each));
  const rows = [["name", policy.name], ["from", end(policy.from)], ["to", end(policy.to)]];
  for (const each of ["tcp", "udp"]) if (policy[each]?.length) rows.push([each, list(policy[each])]);
  if (policy.icmp) rows.push(["icmp", policy.icmp]);
  if (policy.mode) rows.push(["mode", policy.mode]);
  if (policy.until) rows.push(["until", `${policy.until}${policy.ended ? " (ended)" : ""}`]);
  if (policy.note) rows.push(["note", policy.note]);
  return rows.map(([name, value]) => `${name}: ${value}`).join("\n");
}
