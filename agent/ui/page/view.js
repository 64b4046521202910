// Moving and zooming the map: one transform, set at most once a frame, so that nothing is laid out anew.

const [LEAST, MOST] = [0.08, 2.5];
const FAR = 0.3;
const STILL = 250; // milliseconds after which it is drawn sharp again

export class View {
  x = 0;
  y = 0;
  scale = 1;
  moved = false; // by the user: then it is not fitted any more
  #frame;
  #world;
  #asked = false;
  #still = 0;
  #pointers = new Map();
  #travel = 0;

  constructor(frame, world, { click }) {
    this.#frame = frame;
    this.#world = world;
    frame.addEventListener("pointerdown", (event) => this.#down(event));
    frame.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) frame.addEventListener(end, (event) => this.#up(event));
    frame.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    frame.addEventListener("click", (event) => this.#travel < 5 && !event.target.closest(".app") && click(...this.at(event)));
  }

  // Where in the world an event is.
  at(event) {
    const { left, top } = this.#frame.getBoundingClientRect();
    return [(event.clientX - left - this.x) / this.scale, (event.clientY - top - this.y) / this.scale];
  }

  zoom(factor, x = this.#frame.clientWidth / 2, y = this.#frame.clientHeight / 2) {
    const scale = Math.min(MOST, Math.max(LEAST, this.scale * factor));
    this.#set(x - ((x - this.x) * scale) / this.scale, y - ((y - this.y) * scale) / this.scale, scale);
    this.moved = true;
  }

  fit(wide, high) {
    const [room, tall] = [this.#frame.clientWidth, this.#frame.clientHeight];
    if (!room || !wide) return;
    const scale = Math.min(1.25, Math.max(LEAST, Math.min((room - 48) / wide, (tall - 72) / high)));
    this.#set((room - wide * scale) / 2, Math.max(20, (tall - 40 - high * scale) / 2), scale);
    this.moved = false;
  }

  // Into sight, as little as it takes.
  reveal(x, y, wide, high) {
    const [left, top] = [this.x + x * this.scale, this.y + y * this.scale];
    const [right, bottom] = [left + wide * this.scale, top + high * this.scale];
    const [room, tall] = [this.#frame.clientWidth, this.#frame.clientHeight];
    const shift = (low, up, size) => (low < 16 ? 16 - low : up > size - 16 ? size - 16 - up : 0);
    const [dx, dy] = [shift(left, right, room), shift(top, bottom, tall)];
    if (dx || dy) this.#set(this.x + dx, this.y + dy, this.scale);
  }

  #set(x, y, scale) {
    Object.assign(this, { x, y, scale });
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#far();
      this.#world.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    });
  }

  // From far away names of spaces are shown in place of apps'.
  #far() {
    const far = this.scale < FAR;
    if (far) this.#world.style.setProperty("--name", `${Math.round(Math.min(90, 11 / this.scale))}px`);
    this.#world.classList.toggle("far", far);
  }

  #down(event) {
    if (event.button !== 0) return;
    this.#pointers.set(event.pointerId, event);
    this.#travel = 0;
  }

  #move(event) {
    const last = this.#pointers.get(event.pointerId);
    if (!last) return;
    const [dx, dy] = [event.clientX - last.clientX, event.clientY - last.clientY];
    this.#travel += Math.abs(dx) + Math.abs(dy);
    this.#pointers.set(event.pointerId, event);
    if (this.#travel < 5) return;
    if (!this.#frame.hasPointerCapture(event.pointerId)) {
      this.#frame.setPointerCapture(event.pointerId);
      this.#frame.classList.add("held");
    }
    const held = [...this.#pointers.values()];
    if (held.length === 2) {
      const other = held.find((each) => each.pointerId !== event.pointerId);
      const apart = (each) => Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY);
      const { left, top } = this.#frame.getBoundingClientRect();
      this.zoom(apart(event) / Math.max(1, apart(last)), other.clientX - left, other.clientY - top);
    } else {
      this.#hold();
      this.#set(this.x + dx, this.y + dy, this.scale);
      this.moved = true;
    }
  }

  #up(event) {
    this.#pointers.delete(event.pointerId);
    if (!this.#pointers.size) this.#frame.classList.remove("held");
  }

  #wheel(event) {
    event.preventDefault();
    const { left, top } = this.#frame.getBoundingClientRect();
    this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.03 : 0.0015)), event.clientX - left, event.clientY - top);
  }

  // While it moves it is a layer of its own.
  #hold() {
    if (!this.#still) this.#world.classList.add("moving");
    clearTimeout(this.#still);
    this.#still = setTimeout(() => {
      this.#still = 0;
      this.#world.classList.remove("moving");
    }, STILL);
  }
}
