// The page: looks again and again, and leads what is clicked to where it is shown.

import { enter, get } from "./ask.js";
import { ChangesView, Picking } from "./changes.js";
import { byId, counted } from "./elements.js";
import { Lists } from "./lists.js";
import { AppMap } from "./map.js";
import { Panel } from "./panel.js";
import { Refusals } from "./refusals.js";
import { keyOf, RED, World } from "./world.js";

const LOOKS = { refusals: 2000, status: 2000, flows: 2000, rest: 5000, summaries: 10_000 }; // milliseconds

const world = new World();
const acts = {
  app: (name) => (map.picking ? picking.take(name) : (map.choose(name), panel.app(name), panel.focus())),
  edge: (from, to, port) => (map.choose(keyOf(from, to)), panel.edge(from, to, port), panel.focus()),
  nothing: () => (picking.end(), map.choose(""), panel.cell()),
  pick: (from) => (show("map"), picking.begin(from, (asked) => changes.allow(asked))),
  check: (from) => (show("map"), picking.begin(from, (asked) => acts.edge(asked.from, asked.to))),
  allow: (asked) => changes.allow(asked),
  remove: (name) => changes.remove(name),
};
const map = new AppMap(world, { onApp: acts.app, onEdge: ({ from, to }) => map.picking || acts.edge(from, to), onNothing: () => map.picking || acts.nothing() });
const panel = new Panel(byId("panel"), world, acts);
const lists = new Lists(world, acts);
const refusals = new Refusals(world, () => (due.refusals = due.status = 0));
const changes = new ChangesView(world, panel, { changed: () => look(true) });
const picking = new Picking(map);

const tabs = [...document.querySelectorAll("[role=tab]")];
let view = "map";

function show(name) {
  view = name;
  for (const each of tabs) {
    const here = each.id === `${name}-tab`;
    each.setAttribute("aria-selected", here);
    each.tabIndex = here ? 0 : -1;
    byId(each.getAttribute("aria-controls")).hidden = !here;
  }
  draw();
}

function draw() {
  const now = Date.now();
  if (view === "map") map.draw(now);
  if (view === "list") lists.list();
  if (view === "cells") lists.cells();
  if (view === "changes") changes.list();
  const { status } = world;
  if (!status) return;
  byId("cell").textContent = status.cell.name;
  byId("health").textContent = status.ok ? "all is well" : counted(status.problems.length, "problem");
  byId("health").className = `pill ${status.ok ? "well" : "ill"}`;
  document.title = `${status.ok ? "" : "! "}${status.cell.name} – cellnet`;
}

const due = { refusals: 0, status: 0, flows: 0, rest: 0, summaries: 0 };
const texts = new Map();

// Whether an answer is another than the last.
function differs(name, found) {
  const text = JSON.stringify(found);
  if (texts.get(name) === text) return false;
  texts.set(name, text);
  return true;
}

async function look(all = false) {
  const now = Date.now();
  const turn = (name) => (all || now >= due[name]) && ((due[name] = now + LOOKS[name]), true);
  let fresh = false;
  const take = (name, found) => (world[name] = found) && differs(name, found) && (fresh = true);
  try {
    if (turn("refusals")) fresh = (await refusals.look(now)) || fresh;
    if (turn("status")) take("status", await get("status"));
    if (turn("flows")) take("flows", await flows());
    if (turn("rest")) {
      const [apps, policies, matrix, cells] = await Promise.all([get("apps"), get("policies"), open(), get("cells")]);
      Object.entries({ apps, policies, matrix, cells }).forEach(([name, found]) => take(name, found));
    }
    if (world.cells.length > 1 && turn("summaries")) take("summaries", await get("summaries"));
    banner(null);
  } catch (error) {
    banner(error);
    return;
  }
  const faded = [...world.refused.values()].some((each) => now - each.last > RED && now - each.last < RED + 2500);
  if (fresh || faded) {
    if (view !== "changes") draw();
    panel.refresh();
  }
}

// More pairs than the agent lists at once are not shown, those of what flows and was refused are.
const open = () => get("policies/matrix").catch((error) => (error.kind === "InvalidInput" ? [] : Promise.reject(error)));

const flows = () => get("flows").then((found) => found.flows ?? [], (error) => (error.status === 404 ? [] : Promise.reject(error)));

function banner(error) {
  const place = byId("banner");
  const words = error === null ? "" : error.status === 503 ? `The agent does not answer; what is shown is as it was. ${error.what}` : `${error.what}. ${error.hint ?? ""}`;
  if (place.textContent !== words) place.textContent = words;
  if (!place.hidden && error === null) byId("live").textContent = "The agent answers again.";
  place.hidden = error === null;
  document.body.classList.toggle("lost", error !== null);
}

for (const each of tabs) each.onclick = () => show(each.id.replace("-tab", ""));
document.querySelector("nav").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
  next.focus();
  next.click();
});
byId("health").onclick = () => show("cells");
byId("allow").onclick = () => (view === "map" ? acts.pick(null) : changes.allow());
byId("find").oninput = ({ target }) => {
  map.find(target.value);
  lists.filter = target.value.trim().toLowerCase();
  if (view === "list") lists.list();
};
byId("find").onkeydown = ({ key, target }) => key === "Enter" && view === "map" && target.value.trim() && acts.app(map.find(target.value) ?? target.value);
document.addEventListener("keydown", ({ key }) => key === "Escape" && acts.nothing());
document.querySelector(".skip").onclick = (event) => (event.preventDefault(), show("list"), byId("list-tab").focus());

try {
  await enter();
  world.mayChange = (await get("me")).may_change;
  byId("allow").disabled = !world.mayChange;
  refusals.follow();
} catch (error) {
  banner(error);
}
for (;;) {
  if (document.visibilityState === "visible") await look();
  await new Promise((done) => setTimeout(done, 250));
}
