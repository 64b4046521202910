// Elements made by hand. Whatever comes from the cell is put in as text, never as markup.

export const byId = (id) => document.getElementById(id);

export function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "value") made.value = value;
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((each) => each !== null && each !== undefined && each !== false).map((each) => (each instanceof Node ? each : String(each))));
  return made;
}

export const button = (words, onclick, given = {}) => el("button", { type: "button", onclick, ...given }, words);

export function table(caption, heads, rows, empty) {
  if (!rows.length) return el("p", { class: "soft" }, empty);
  const head = el("tr", {}, heads.map((each) => el("th", { scope: "col" }, each)));
  const body = rows.map((row) => el("tr", {}, row.map((each) => el("td", {}, each))));
  return el("div", { class: "scroll" }, el("table", {}, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, body)));
}

export const failure = (error) => el("p", { class: "error", role: "alert" }, error.hint ? `${error.what}\n${error.hint}` : error.what ?? String(error));

export const moment = (text) => (text ? text.replace("T", " ").replace("Z", "") : "");

export const counted = (number, noun, plural = `${noun}s`) => `${number} ${number === 1 ? noun : plural}`;

export function octets(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) [number, unit] = [number / 1024, unit + 1];
  return `${unit && number < 10 ? number.toFixed(1) : Math.round(number)} ${units[unit]}`;
}
