// The curves of arrows, and which of them is near a point.

import { HIGH, WIDE } from "./layout.js";

const HEAD = 7;
const LANE = 5; // the two directions between two apps run apart
const SAMPLES = 20;

// Four points of a Bézier curve; it begins and ends level.
export function curve(from, to) {
  const [fromY, toY] = [from.y + HIGH / 2, to.y + HIGH / 2];
  if (from === to) return [[from.x + WIDE, fromY - 6], [from.x + WIDE + 34, fromY - 14], [from.x + WIDE + 34, fromY + 14], [from.x + WIDE, fromY + 6]];
  if (to.x >= from.x + WIDE) return level([from.x + WIDE, fromY - LANE], [to.x, toY - LANE], 1, 1);
  if (to.x + WIDE <= from.x) return level([from.x, fromY + LANE], [to.x + WIDE, toY + LANE], -1, -1);
  return level([from.x + WIDE, fromY + LANE], [to.x + WIDE, toY - LANE], 1, -1);
}

function level(begin, end, out, into) {
  const reach = out === into ? Math.max(28, Math.abs(end[0] - begin[0]) / 2) : 34 + Math.abs(end[1] - begin[1]) / 10;
  return [begin, [begin[0] + out * reach, begin[1]], [end[0] - into * reach, end[1]], end];
}

export function path([begin, one, two, end]) {
  const into = Math.sign(end[0] - two[0]) || 1;
  const curved = `M${begin}C${one} ${two} ${end}`;
  return `${curved}m${-into * HEAD} -4l${into * HEAD} 4l${-into * HEAD} 4`;
}

export const bounds = (points) => {
  const [xs, ys] = [points.map((each) => each[0]), points.map((each) => each[1])];
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
};

// How far a point is from a curve; far away for one that is not even in its bounds.
export function distance(points, box, x, y, most) {
  if (x < box[0] - most || y < box[1] - most || x > box[2] + most || y > box[3] + most) return Infinity;
  let best = Infinity;
  let last = points[0];
  for (let at = 1; at <= SAMPLES; at++) {
    const next = pointAt(points, at / SAMPLES);
    best = Math.min(best, toSegment(x, y, last, next));
    last = next;
  }
  return best;
}

function pointAt([a, b, c, d], t) {
  const u = 1 - t;
  const [p, q, r, s] = [u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t];
  return [p * a[0] + q * b[0] + r * c[0] + s * d[0], p * a[1] + q * b[1] + r * c[1] + s * d[1]];
}

function toSegment(x, y, [ax, ay], [bx, by]) {
  const [dx, dy] = [bx - ax, by - ay];
  const along = dx || dy ? Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy))) : 0;
  return Math.hypot(x - ax - along * dx, y - ay - along * dy);
}
