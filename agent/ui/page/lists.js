// The same without a map: apps, connections, policies; cells, certificates, problems.

import { byId, button, el, moment, table } from "./elements.js";
import { placeOf, problem, written } from "./panel.js";

const MOST = 400; // rows of a table, before all are asked for

export class Lists {
  #all = false;
  #shown = "";
  filter = "";

  constructor(world, acts) {
    Object.assign(this, { world, acts });
  }

  list() {
    const { apps, policies } = this.world;
    const edges = [...this.world.edges(Date.now()).values()];
    const look = JSON.stringify([apps, policies, edges.map((each) => [each.key, each.ports, each.flows, each.elsewhere, [...(each.refused?.ports ?? [])]]), this.filter, this.#all]);
    if (look === this.#shown) return;
    this.#shown = look;
    const fits = (...texts) => !this.filter || texts.some((each) => each.toLowerCase().includes(this.filter));
    const focused = document.activeElement?.dataset?.at;
    const pairs = edges.filter((each) => fits(each.from, each.to)).sort((one, other) => Boolean(other.refused) - Boolean(one.refused) || one.key.localeCompare(other.key));
    const rows = pairs.map((each) => [each.from, button(each.to, () => this.acts.edge(each.from, each.to), { class: "link", "data-at": `edge ${each.key}` }), [...each.ports, ...each.trial.map((one) => `${one} on trial`)].join(", ") || "–", [each.flows, each.elsewhere && `${each.elsewhere} on other cells`].filter(Boolean).join(", ") || "–", each.refused ? el("span", { class: "bad" }, [...each.refused.ports].map(([port, why]) => `${port} (${why})`).join(", ")) : "–"]);
    byId("list").replaceChildren(
      ...this.#cut("Connections", ["From", "To", "Allowed", "Live", "Refused, last minute"], rows, "No policy allows anything, and nothing was refused."),
      ...this.#cut("Apps", ["App", "Instances", "Ready", "Cells", "Routes"], apps.filter((each) => fits(each.app)).map((each) => [button(each.app, () => this.acts.app(each.app), { class: "link", "data-at": `app ${each.app}` }), each.instances.length, each.instances.filter((one) => one.ready).length, [...new Set(each.instances.map((one) => one.cell))].join(", ") || "–", each.routes.join(", ") || "–"]), "There are no apps."),
      ...this.#cut("Policies", ["Name", "What", "Where"], policies.filter((each) => fits(each.name, written(each))).map((each) => [each.name, el("pre", {}, written(each)), placeOf(each)]), "There are no policies: nothing is allowed."),
    );
    if (focused) document.querySelector(`#list [data-at="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  #cut(caption, heads, rows, empty) {
    if (this.#all || rows.length <= MOST) return [table(caption, heads, rows, empty)];
    return [table(`${caption}: the first ${MOST} of ${rows.length}`, heads, rows.slice(0, MOST), empty), button("Show all", () => ((this.#all = true), this.list()))];
  }

  cells() {
    const { status, cells } = this.world;
    if (!status) return;
    const ends = status.ca && [
      ["root", moment(status.ca.root_not_after)], ["this cell", moment(status.ca.cell_not_after)], ["the first leaf to end", moment(status.ca.next_expiry)],
    ].filter(([, at]) => at);
    const tunnels = new Map(status.peers.map((each) => [each.name, each.tunnel]));
    const parts = [
      el("h2", {}, status.problems.length ? "Problems" : "All is well"),
      el("ul", { class: "problems" }, status.problems.map(problem)),
      table("Cells", ["Name", "Containers' network", "Address", "Alive since", "Tunnel", "Mutual TLS", "Version"], cells.map((each) => [el("b", {}, each.name, each.here ? " (here)" : ""), each.subnet, each.underlay, each.alive_since ? moment(each.alive_since) : el("span", { class: "bad" }, "no sign of life"), each.here ? "–" : (tunnels.get(each.name) ?? "not asked yet"), each.mtls, each.version]), "No cell is known."),
      this.world.summaries.silent.length > 0 && el("p", { class: "notice" }, `Nothing is known of what flows on ${this.world.summaries.silent.join(", ")}.`),
      table("Certificates end", ["Whose", "At (UTC)"], ends || [], "There are no certificates yet."),
      table("Here", ["What", ""], [["store", `${status.store.kind} ${status.store.location ?? ""}`], ["firewall", `${status.firewall?.backend}, ${status.firewall?.rules} rules`], ["Envoy", status.envoy?.connected ? `${status.envoy.version}, ${status.envoy.listeners} listeners` : "not connected"], ["repairs", status.repairs], ["connections cut", status.cuts]], ""),
    ];
    byId("cells").replaceChildren(...parts.filter(Boolean));
  }
}
