// Where everything is: inside of a space callers stand left of what they call, spaces stand in rows.

export const WIDE = 152;
export const HIGH = 34;
const APART = { across: 74, down: 20 };
const GRID = { across: 34, down: 20 };
const MARGIN = { side: 18, top: 40, bottom: 18 };
const BETWEEN = 56;
const RANKED = 40; // apps of a space that are put in order of their calls; more stand in a grid

export function layout(spaces, edges) {
  const boxes = spaces.map(([name, nodes]) => box(name, nodes, edges));
  const area = boxes.reduce((sum, each) => sum + (each.wide + BETWEEN) * (each.high + BETWEEN), 0);
  const limit = Math.max(Math.sqrt(area * 1.5), ...boxes.map((each) => each.wide));
  let [x, y, row] = [0, 0, 0];
  const found = { boxes, nodes: new Map(), wide: 0, high: 0 };
  for (const each of boxes) {
    if (x > 0 && x + each.wide > limit) [x, y, row] = [0, y + row + BETWEEN, 0];
    Object.assign(each, { x, y });
    for (const node of each.nodes) found.nodes.set(node.name, Object.assign(node, { x: x + node.inX, y: y + node.inY }));
    [x, row] = [x + each.wide + BETWEEN, Math.max(row, each.high)];
    found.wide = Math.max(found.wide, x - BETWEEN);
    found.high = Math.max(found.high, y + each.high);
  }
  return found;
}

function box(name, nodes, edges) {
  nodes.sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true }));
  const ranked = nodes.length <= RANKED;
  const columns = ranked ? ranks(nodes, edges) : grid(nodes);
  const apart = ranked ? APART : GRID;
  const high = Math.max(...columns.map((each) => each.length));
  columns.forEach((column, place) => {
    const lower = ((high - column.length) * (HIGH + apart.down)) / 2;
    column.forEach((node, at) => {
      node.inX = MARGIN.side + place * (WIDE + apart.across);
      node.inY = MARGIN.top + lower + at * (HIGH + apart.down);
    });
  });
  return {
    name, nodes,
    wide: 2 * MARGIN.side + columns.length * (WIDE + apart.across) - apart.across,
    high: MARGIN.top + MARGIN.bottom + high * (HIGH + apart.down) - apart.down,
  };
}

function grid(nodes) {
  const down = Math.max(1, Math.ceil(Math.sqrt(nodes.length * 1.9)));
  return Array.from({ length: Math.ceil(nodes.length / down) }, (_, at) => nodes.slice(at * down, (at + 1) * down));
}

// Columns by the longest way of calls that leads to an app; a cycle is entered where it is met first. Where that takes too many
// columns, by the shortest.
function ranks(nodes, edges) {
  const here = new Map(nodes.map((each) => [each.name, { node: each, rank: 0, callers: [], calls: [] }]));
  let some = false;
  for (const { from, to } of edges.values()) {
    if (from === to || !here.has(from) || !here.has(to)) continue;
    here.get(from).calls.push(here.get(to));
    here.get(to).callers.push(here.get(from));
    some = true;
  }
  if (!some) return grid(nodes);
  const state = new Map();
  const rank = (each) => {
    if (state.has(each)) return state.get(each) === "open" ? -1 : each.rank;
    state.set(each, "open");
    each.rank = Math.max(0, ...each.callers.map((caller) => rank(caller) + 1));
    state.set(each, "done");
    return each.rank;
  };
  for (const each of here.values()) rank(each);
  if (Math.max(...[...here.values()].map((each) => each.rank)) >= Math.max(5, Math.sqrt(nodes.length * 1.5))) nearest([...here.values()]);
  const columns = [];
  for (const each of here.values()) (columns[each.rank] ??= []).push(each);
  const found = columns.filter(Boolean);
  const high = Math.max(3, Math.ceil(Math.sqrt(nodes.length * 2)));
  for (const column of found.slice(1)) {
    const middle = (each) => each.callers.reduce((sum, caller) => sum + (caller.at ?? 0), 0) / (each.callers.length || 1);
    found[0].forEach((each, at) => (each.at = at));
    column.sort((one, other) => middle(one) - middle(other));
    column.forEach((each, at) => (each.at = at));
  }
  const split = found.flatMap((column) => Array.from({ length: Math.ceil(column.length / high) }, (_, at) => column.slice(at * high, (at + 1) * high)));
  return split.map((column) => column.map((each) => each.node));
}

function nearest(all) {
  for (const each of all) each.rank = Infinity;
  const byCallers = [...all].sort((one, other) => one.callers.length - other.callers.length || other.calls.length - one.calls.length);
  for (const root of byCallers) {
    if (root.rank !== Infinity) continue;
    root.rank = 0;
    for (let wave = [root], rank = 1; wave.length; rank++) {
      wave = [...new Set(wave.flatMap((each) => each.calls))].filter((each) => each.rank > rank);
      for (const each of wave) each.rank = rank;
    }
  }
}
