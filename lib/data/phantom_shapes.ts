import type { Random } from "../random.ts";

export type Point = readonly [number, number, number];

/**
 * A solid given by a signed distance that is negative inside and accurate near the border, which is all that
 * partial volume needs. `low` and `high` enclose it.
 */
export interface Shape {
  low: Point;
  high: Point;
  distance(x: number, y: number, z: number): number;
}

/** As a solid's third radius: a cylinder along z. */
export const ENDLESS = Number.POSITIVE_INFINITY;

/**
 * A superquadric |x/rx|^e + |y/ry|^e + |z/rz|^e = 1, turned about z by `angle`; e = 2 is an ellipsoid, larger
 * is boxier; `ENDLESS` for rz makes a cylinder.
 */
export function solid(
  centre: Point,
  radii: Point,
  options: { angle?: number; exponent?: number } = {},
): Shape {
  const { angle = 0, exponent = 2 } = options;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const bounded = Number.isFinite(radii[2]);
  const reachX = Math.abs(cos) * radii[0] + Math.abs(sin) * radii[1];
  const reachY = Math.abs(sin) * radii[0] + Math.abs(cos) * radii[1];
  return {
    low: [centre[0] - reachX, centre[1] - reachY, centre[2] - radii[2]],
    high: [centre[0] + reachX, centre[1] + reachY, centre[2] + radii[2]],
    distance(px, py, pz) {
      const dx = px - centre[0];
      const dy = py - centre[1];
      const dz = bounded ? pz - centre[2] : 0;
      const x = Math.abs(cos * dx + sin * dy) / radii[0];
      const y = Math.abs(cos * dy - sin * dx) / radii[1];
      const z = Math.abs(dz) / radii[2];
      const f =
        exponent === 2
          ? Math.sqrt(x * x + y * y + z * z)
          : (x ** exponent + y ** exponent + z ** exponent) ** (1 / exponent);
      // Along the ray from the centre the border lies at |p| / f.
      return f < 1e-6 ? -Math.min(...radii) : Math.sqrt(dx * dx + dy * dy + dz * dz) * (1 - 1 / f);
    },
  };
}

/** Everything with y below `level`. */
export function inFrontOf(level: number): Shape {
  return {
    low: [-ENDLESS, -ENDLESS, -ENDLESS],
    high: [ENDLESS, level, ENDLESS],
    distance: (_x, y) => y - level,
  };
}

/** A straight tube with round ends. */
export function tube(a: Point, b: Point, radius: number): Shape {
  const axis = [b[0] - a[0], b[1] - a[1], b[2] - a[2]];
  const length2 = axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2;
  const low = (i: number) => Math.min(a[i], b[i]) - radius;
  const high = (i: number) => Math.max(a[i], b[i]) + radius;
  return {
    low: [low(0), low(1), low(2)],
    high: [high(0), high(1), high(2)],
    distance(x, y, z) {
      const [px, py, pz] = [x - a[0], y - a[1], z - a[2]];
      const along = Math.min(1, Math.max(0, (px * axis[0] + py * axis[1] + pz * axis[2]) / length2));
      const [dx, dy, dz] = [px - along * axis[0], py - along * axis[1], pz - along * axis[2]];
      return Math.sqrt(dx * dx + dy * dy + dz * dz) - radius;
    },
  };
}

/** Union whose creases are rounded over about `blend` (polynomial smooth minimum). */
export function union(shapes: readonly Shape[], blend: number): Shape {
  const low = (i: number) => Math.min(...shapes.map((shape) => shape.low[i])) - blend / 4;
  const high = (i: number) => Math.max(...shapes.map((shape) => shape.high[i])) + blend / 4;
  return {
    low: [low(0), low(1), low(2)],
    high: [high(0), high(1), high(2)],
    distance(x, y, z) {
      let result = shapes[0].distance(x, y, z);
      for (let i = 1; i < shapes.length; i++) {
        const next = shapes[i].distance(x, y, z);
        const overlap = Math.max(0, blend - Math.abs(result - next));
        result = Math.min(result, next) - (overlap * overlap) / (4 * blend);
      }
      return result;
    },
  };
}

/** The part of `shape` that lies inside `bound`. */
export function within(shape: Shape, bound: Shape): Shape {
  return {
    ...shape,
    distance: (x, y, z) => Math.max(shape.distance(x, y, z), bound.distance(x, y, z)),
  };
}

/** The part of `shape` that lies outside `hole`. */
export function without(shape: Shape, hole: Shape): Shape {
  return {
    ...shape,
    distance: (x, y, z) => Math.max(shape.distance(x, y, z), -hole.distance(x, y, z)),
  };
}

/** A smooth random field of mean 0: a sum of plane waves. */
export function waves(
  random: Random,
  amplitude: number,
  wavelength: number,
  count: number,
): (x: number, y: number, z: number) => number {
  const terms = Array.from({ length: count }, () => {
    const [dx, dy, dz] = [random.normal(), random.normal(), random.normal()];
    const scale = (2 * Math.PI) / (wavelength * random.between(0.75, 1.5) * Math.hypot(dx, dy, dz));
    const weight = amplitude * Math.sqrt(2 / count);
    return { kx: dx * scale, ky: dy * scale, kz: dz * scale, phase: 2 * Math.PI * random.uniform(), weight };
  });
  return (x, y, z) => {
    let sum = 0;
    for (const { kx, ky, kz, phase, weight } of terms)
      sum += weight * Math.sin(kx * x + ky * y + kz * z + phase);
    return sum;
  };
}
