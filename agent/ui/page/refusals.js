// Refusals as they happen: asked for by number, so that none is shown twice, and told to screen readers in few words.

import { get } from "./ask.js";
import { button, byId, counted, el } from "./elements.js";
import { portOf, RED, short } from "./world.js";

const QUIET = 3000; // milliseconds between two announcements

export class Refusals {
  #after = 0;
  #first = true;
  #told = 0;
  #untold = [];

  // `wake` is called when there is something to look at.
  constructor(world, wake) {
    this.world = world;
    this.wake = wake;
  }

  // The agent tells of each as it happens; what was told is then asked for. It is asked all the same from time to time.
  follow() {
    const events = new EventSource("/v1/events?kind=refused,cut");
    for (const kind of ["following", "refused", "cut", "lost"]) events.addEventListener(kind, this.wake);
    events.onerror = () => events.readyState === EventSource.CLOSED && setTimeout(() => this.follow(), 5000);
  }

  // Whether there is anything new.
  async look(now) {
    const found = await get("denied", { after: this.#after });
    if (found.number < this.#after) {
      this.#after = 0; // another agent, which counts anew
      return false;
    }
    this.#after = found.number;
    const denied = found.denied.filter((each) => each.reason !== "audit"); // that passed
    const fresh = this.#first ? denied.filter((each) => now - Date.parse(each.at) < RED) : denied;
    if (this.#first) this.world.denials = denied.filter((each) => !fresh.includes(each)).reverse();
    this.world.noteDenied(fresh, now);
    if (!this.#first) this.#untold.push(...fresh);
    this.#first = false;
    this.#tell(now);
    return fresh.length > 0;
  }

  #tell(now) {
    if (!this.#untold.length || now - this.#told < QUIET) return;
    const { from, to, reason } = this.#untold.at(-1);
    const more = this.#untold.length - 1;
    byId("live").textContent = `Refused: ${short(from)} to ${short(to)}, ${reason}${more ? `, and ${counted(more, "other")}` : ""}`;
    this.#untold = [];
    this.#told = now;
  }
}

export function denialLine(each, open, at) {
  return [
    el("time", { datetime: each.at }, each.at.slice(11, 19)),
    button(`${short(each.from)} → ${short(each.to)}`, open, { class: "link", "data-at": at }),
    ` ${portOf(each)} `,
    el("span", { class: "why" }, `${each.reason} ${each.words}`.trimEnd()),
  ];
}
