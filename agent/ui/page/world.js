// What is known of the cell, and what of it the map shows: apps by space, and who may reach whom, does, or was refused.

export const RED = 60_000; // milliseconds that a refusal is shown
const MOST_OUTSIDE = 60;
export const OUTSIDE = "outside";

export class World {
  apps = [];
  matrix = [];
  policies = [];
  flows = [];
  status = null;
  cells = [];
  summaries = { flows: [], denied: [], silent: [] }; // of all cells, at most ten seconds old
  mayChange = false;
  denials = []; // the newest first
  refused = new Map(); // by ends: when last, on which ports and why

  noteDenied(found, now) {
    for (const each of found) {
      const key = keyOf(each.from, each.to);
      const held = this.refused.get(key) ?? { from: each.from, to: each.to, ports: new Map() };
      held.last = now;
      held.ports.set(portOf(each), each.reason);
      this.refused.set(key, held);
    }
    this.denials = [...found].reverse().concat(this.denials).slice(0, 1000);
    while (this.refused.size > 2000) this.refused.delete(this.refused.keys().next().value);
  }

  edges(now) {
    const found = new Map();
    const edge = (from, to) => {
      const key = keyOf(from, to);
      if (!found.has(key)) found.set(key, { key, from, to, ports: [], trial: [], flows: 0, elsewhere: 0, refused: null });
      return found.get(key);
    };
    for (const each of this.matrix) edge(each.from, each.to)[each.mode === "audit" ? "trial" : "ports"] = each.ports;
    for (const each of this.flows) edge(each.from, each.to).flows += 1;
    const here = this.status?.cell.name;
    for (const each of this.summaries.flows) if (each.cell !== here) edge(each.from, each.to).elsewhere += each.count;
    for (const each of this.refused.values()) if (now - each.last < RED) edge(each.from, each.to).refused = each;
    for (const each of this.summaries.denied) {
      if (each.cell === here) continue;
      const held = edge(each.from, each.to);
      held.refused = { ports: new Map(held.refused?.ports).set(portOf(each), `${each.reason} on ${each.cell}`) };
    }
    return found;
  }

  // Spaces with their apps; ends that are no app are outside.
  spaces(edges) {
    const found = new Map();
    const known = new Set();
    const place = (space, node) => {
      known.add(node.name);
      if (!found.has(space)) found.set(space, []);
      found.get(space).push(node);
    };
    for (const each of this.apps) place(spaceOf(each.app), { name: each.app, label: each.app.split("/")[2], instances: each.instances });
    let outside = 0;
    for (const each of edges.values()) {
      for (const end of [each.from, each.to]) {
        if (known.has(end)) continue;
        if (isApp(end)) place(spaceOf(end), { name: end, label: end.split("/")[2], instances: [] });
        else if (outside++ < MOST_OUTSIDE) place(OUTSIDE, { name: end, label: end, instances: [], address: true });
      }
    }
    return [...found].sort(([one], [other]) => (one === OUTSIDE) - (other === OUTSIDE) || one.localeCompare(other, "en", { numeric: true }));
  }

  app(name) {
    return this.apps.find((each) => each.app === name);
  }
}

export const portOf = ({ protocol, port }) => (port ? `${protocol}/${port}` : protocol);
export const keyOf = (from, to) => `${from} ${to}`;
export const isApp = (name) => /^[^/\s]+\/[^/\s]+\/[^/\s]+$/.test(name);
const spaceOf = (name) => name.split("/").slice(0, 2).join("/");
export const short = (name) => (isApp(name) ? name.split("/")[2] : name);
