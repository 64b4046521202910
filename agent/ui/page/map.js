// The map: a button for each app, a curve for each pair. What has not changed is not touched.

import { byId, counted, el } from "./elements.js";
import { bounds, curve, distance, path } from "./geometry.js";
import { HIGH, layout, WIDE } from "./layout.js";
import { View } from "./view.js";
import { OUTSIDE } from "./world.js";

const NEAR = 9; // pixels from an arrow that count as on it

const LETTERS = 13; // of a name
const SVG = "http://www.w3.org/2000/svg";

// Text that is clipped by its element would be a layer of its own for each app: moving the map would take ten times as long.
const cut = (text, most = LETTERS) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

export class AppMap {
  picking = false;
  #nodes = new Map(); // name -> {node, button}
  #edges = new Map(); // key -> {edge, element, points, box}
  #spaces = [];
  #shape = "";
  #size = [0, 0];
  #chosen = "";
  #current = ""; // the app that Tab comes to

  constructor(world, { onApp, onEdge, onNothing }) {
    this.world = world;
    this.view = new View(byId("frame"), byId("world"), {
      click: (x, y) => {
        const found = this.edgeAt(x, y);
        found ? onEdge(found) : onNothing();
      },
    });
    byId("closer").onclick = () => this.view.zoom(1.3);
    byId("farther").onclick = () => this.view.zoom(1 / 1.3);
    byId("fit").onclick = () => this.view.fit(...this.#size);
    byId("nodes").addEventListener("click", (event) => event.target.closest(".app") && onApp(event.target.closest(".app").dataset.name));
    byId("nodes").addEventListener("keydown", (event) => this.#key(event));
    byId("nodes").addEventListener("focusin", (event) => this.#focused(event.target));
    new ResizeObserver(() => this.view.moved || this.view.fit(...this.#size)).observe(byId("frame"));
  }

  draw(now) {
    const edges = this.world.edges(now);
    const spaces = this.world.spaces(edges);
    const inside = [...edges.values()].map((each) => (each.ports.length ? each.key : "")).join("|");
    const shape = JSON.stringify([spaces.map(([name, nodes]) => [name, nodes.map((each) => each.name)]), inside]);
    if (shape !== this.#shape) this.#place(spaces, edges);
    this.#shape = shape;
    const refused = new Set([...edges.values()].filter((each) => each.refused).map((each) => each.to));
    for (const [, nodes] of spaces) for (const each of nodes) this.#dress(each, refused.has(each.name));
    this.#curves(edges);
    this.choose(this.#chosen);
  }

  #place(spaces, edges) {
    const found = layout(spaces, new Map([...edges].filter(([, each]) => each.ports.length)));
    this.#size = [found.wide, found.high];
    this.#spaces.forEach((each) => each.remove());
    this.#spaces = found.boxes.map((each) => {
      const made = el("div", { class: each.name === OUTSIDE ? "space outside" : "space" }, el("span", { title: each.name }, cut(each.name === OUTSIDE ? "outside of all apps" : each.name, Math.floor((each.wide - 30) / 7))));
      Object.assign(made.style, { left: `${each.x}px`, top: `${each.y}px`, width: `${each.wide}px`, height: `${each.high}px` });
      return made;
    });
    byId("world").prepend(...this.#spaces);
    for (const [name, held] of this.#nodes) {
      if (found.nodes.has(name)) continue;
      held.button.remove();
      this.#nodes.delete(name);
    }
    const wanted = [...found.nodes.values()].map((node) => {
      const button = this.#nodes.get(node.name)?.button ?? this.#button(node);
      Object.assign(button.style, { left: `${node.x}px`, top: `${node.y}px` });
      this.#nodes.set(node.name, { node, button, look: "" });
      return button;
    });
    const held = document.activeElement;
    byId("nodes").replaceChildren(...wanted);
    if (wanted.includes(held)) held.focus({ preventScroll: true });
    if (!this.#nodes.has(this.#current)) this.#current = found.nodes.keys().next().value ?? "";
    this.#nodes.get(this.#current)?.button.setAttribute("tabindex", "0");
    byId("edges").setAttribute("width", found.wide);
    byId("edges").setAttribute("height", found.high);
    this.#edges.forEach((each) => (each.from = null));
    if (!this.view.moved) this.view.fit(...this.#size);
  }

  #button(node) {
    return el("button", { type: "button", class: "app", tabindex: "-1", "data-name": node.name }, el("b", {}, cut(node.label)), el("i"));
  }

  #dress(node, refused) {
    const held = this.#nodes.get(node.name);
    const ready = node.instances.filter((each) => each.ready).length;
    const state = node.address ? "address" : !node.instances.length ? "gone" : ready < node.instances.length ? "waiting" : "ready";
    const look = `${state} ${refused} ${node.instances.length}`;
    if (held.look === look) return;
    held.look = look;
    for (const each of ["address", "gone", "waiting", "ready"]) held.button.classList.toggle(each, each === state);
    held.button.classList.toggle("refused", refused);
    held.button.lastChild.textContent = node.instances.length > 1 ? `×${node.instances.length}` : "";
    const words = node.address ? "outside" : `${counted(node.instances.length, "instance")}, ${ready} ready`;
    held.button.setAttribute("aria-label", `${node.name}, ${words}${refused ? ", refused calls" : ""}`);
    held.button.title = node.name;
  }

  #curves(edges) {
    for (const [key, held] of this.#edges) {
      if (edges.has(key)) continue;
      held.element.remove();
      this.#edges.delete(key);
    }
    const made = [];
    for (const [key, edge] of edges) {
      const [from, to] = [this.#nodes.get(edge.from)?.node, this.#nodes.get(edge.to)?.node];
      if (!from || !to) continue;
      let held = this.#edges.get(key);
      if (!held) {
        held = { element: document.createElementNS(SVG, "path"), look: "" };
        held.element.dataset.edge = key;
        this.#edges.set(key, held);
        made.push(held.element);
      }
      held.edge = edge;
      if (held.from !== from || held.to !== to) {
        held.points = curve(from, to);
        held.box = bounds(held.points);
        held.element.setAttribute("d", path(held.points));
        Object.assign(held, { from, to });
      }
      const look = ["edge", (edge.ports.length || edge.trial.length) && "policy", (edge.flows || edge.elsewhere) && "flow", edge.refused && "refused"].filter(Boolean).join(" ");
      if (held.look !== look) held.element.setAttribute("class", (held.look = look));
    }
    byId("edges").append(...made);
  }

  // What is chosen: an app, an edge's key, or nothing; its neighbours stand out.
  choose(chosen) {
    this.#chosen = chosen;
    const near = new Set([chosen]);
    for (const [key, { edge, element }] of this.#edges) {
      const isNear = edge.from === chosen || edge.to === chosen;
      element.classList.toggle("near", isNear);
      element.classList.toggle("chosen", key === chosen);
      if (isNear || key === chosen) near.add(edge.from).add(edge.to);
    }
    const some = near.size > 1 || this.#nodes.has(chosen);
    byId("world").classList.toggle("chosen", some && Boolean(chosen));
    for (const [name, { button }] of this.#nodes) {
      button.classList.toggle("chosen", name === chosen);
      button.classList.toggle("near", name !== chosen && near.has(name));
    }
  }

  find(text) {
    const words = text.trim().toLowerCase();
    let first = null;
    for (const [name, { node, button }] of this.#nodes) {
      const fits = !words || name.toLowerCase().includes(words);
      button.classList.toggle("faded", !fits);
      if (fits && words) first ??= node;
    }
    if (first) this.view.reveal(first.x, first.y, WIDE, HIGH);
    return first?.name;
  }

  reveal(name) {
    const found = this.#nodes.get(name)?.node;
    if (found) this.view.reveal(found.x, found.y, WIDE, HIGH);
  }

  edgeAt(x, y) {
    let [best, found] = [NEAR / Math.min(1, this.view.scale), null];
    for (const each of this.#edges.values()) {
      const away = distance(each.points, each.box, x, y, best);
      if (away < best) [best, found] = [away, each.edge];
    }
    return found;
  }

  #focused(target) {
    const button = target.closest(".app");
    if (!button) return;
    this.#nodes.get(this.#current)?.button.setAttribute("tabindex", "-1");
    this.#current = button.dataset.name;
    button.setAttribute("tabindex", "0");
    if (button.matches(":focus-visible")) this.reveal(this.#current);
  }

  // To the nearest app in the direction of an arrow key.
  #key(event) {
    const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
    const here = this.#nodes.get(this.#current)?.node;
    const way = ways[event.key];
    if (!way || !here) return;
    event.preventDefault();
    let [best, found] = [Infinity, null];
    for (const { node, button } of this.#nodes.values()) {
      const [dx, dy] = [node.x - here.x, node.y - here.y];
      const [along, aside] = [dx * way[0] + dy * way[1], Math.abs(dx * way[1]) + Math.abs(dy * way[0])];
      const away = along + 2.5 * aside;
      if (along > 4 && away < best) [best, found] = [away, button];
    }
    found?.focus({ preventScroll: true });
  }
}
