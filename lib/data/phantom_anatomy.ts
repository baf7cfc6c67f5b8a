import {
  ENDLESS,
  inFrontOf,
  type Point,
  type Shape,
  solid,
  tube,
  union,
  within,
  without,
} from "./phantom_shapes.ts";
import type { Random } from "../random.ts";

export const organs = ["liver", "spleen", "kidneys", "stomach"] as const;
export type Organ = (typeof organs)[number];

/** One thing painted over what came before it. */
export interface Structure {
  shape: Shape;
  /** Mean intensity in HU. */
  hu: number;
  /** Deviation, in HU, of the slow variation inside it. */
  texture?: number;
  organ?: Organ;
  /** True for what bends with the soft tissue. */
  soft: boolean;
}

/**
 * The trunk in cross-section: the field of view spans -1 … 1 along every axis, y to the back and z to the
 * head.
 */
export interface Trunk {
  /** Half axes of the skin. */
  skin: readonly [number, number];
  fat: number;
  /** Half axes and y of the centre of the abdominal cavity. */
  cavity: readonly [number, number];
  cavityY: number;
  wall: number;
}

export type Phase = "portal" | "native" | "arterial";

/** Mean HU per contrast phase. In every phase some neighbours of the liver look like it. */
const intensities: Record<Phase, Record<Organ | "vessels" | "aorta", number>> = {
  portal: { liver: 110, spleen: 120, kidneys: 165, stomach: 70, vessels: 155, aorta: 150 },
  native: { liver: 58, spleen: 52, kidneys: 36, stomach: 40, vessels: 42, aorta: 44 },
  arterial: { liver: 76, spleen: 122, kidneys: 185, stomach: 65, vessels: 90, aorta: 270 },
};

export function drawPhase(random: Random): Phase {
  const u = random.uniform();
  return u < 0.6 ? "portal" : u < 0.85 ? "native" : "arterial";
}

export function drawTrunk(random: Random): Trunk {
  const girth = random.between(0.9, 1);
  const fat = random.between(0.03, 0.11);
  const wall = random.between(0.04, 0.06);
  const skin = [0.96 * girth, 0.8 * girth * random.between(0.94, 1.04)] as const;
  const back = 0.1;
  const cavity = [skin[0] - fat - wall, skin[1] - fat - wall - back / 2] as const;
  return { skin, fat, wall, cavity, cavityY: -back / 2 };
}

/**
 * All that lies inside the trunk, from back to front of the painting order. Positions are in units of the
 * cavity's half axes, so organs follow the body's build; sizes, places, tilts and intensities vary from case
 * to case.
 */
export function drawStructures(random: Random, trunk: Trunk, phase: Phase): Structure[] {
  const [a, b] = trunk.cavity;
  const hu = intensities[phase];
  const at = (x: number, y: number, z: number, jitter = 0): Point => [
    (x + jitter * random.normal()) * a,
    trunk.cavityY + (y + jitter * random.normal()) * b,
    z + jitter * random.normal(),
  ];
  const size = (x: number, y: number, z: number, spread = 0.1): Point => {
    const all = 1 + spread * random.between(-1, 1);
    const one = () => all * (1 + 0.6 * spread * random.between(-1, 1));
    return [x * a * one(), y * b * one(), z * one()];
  };
  const vary = (mean: number, spread: number) => mean + spread * random.between(-1, 1);
  const cavity = solid([0, trunk.cavityY, 0], [a * 0.985, b * 0.985, ENDLESS]);
  const structures: Structure[] = [];
  const put = (shape: Shape, intensity: number, more: Partial<Structure> = {}) =>
    structures.push({ shape, hu: intensity, soft: true, ...more });

  // Lungs: the cavity above a domed diaphragm.
  const dome = solid([0, trunk.cavityY, random.between(-0.62, -0.5)], [a * 1.12, b * 1.25, 1.32], {
    exponent: 2.3,
  });
  const chest = solid([0, trunk.cavityY, 1.2], [a * 0.97, b * 0.97, 1.6], { exponent: 4 });
  put(without(within(chest, cavity), dome), vary(-820, 30), { texture: 25 });

  // Bowel: loops in front, some with gas.
  for (let i = 0; i < 22; i++) {
    const centre = at(random.between(-0.75, 0.75), random.between(-0.75, 0.25), random.between(-1, -0.1));
    const loop = solid(centre, size(0.17, 0.19, 0.15, 0.3), { angle: random.between(-1, 1) });
    put(within(loop, cavity), vary(35, 20));
    if (random.uniform() < 0.4) {
      const gas = solid([centre[0], centre[1] - 0.05 * b, centre[2]], size(0.09, 0.08, 0.08, 0.3));
      put(within(gas, cavity), -850);
    }
  }
  // Pancreas and duodenum: tissue beside the liver that is nearly as bright.
  put(
    union(
      [
        tube(at(-0.16, 0.12, -0.22, 0.03), at(0.1, -0.02, -0.08, 0.03), 0.085 * b),
        tube(at(0.1, -0.02, -0.08, 0.03), at(0.46, 0.2, 0.05, 0.03), 0.07 * b),
      ],
      0.05,
    ),
    vary(phase === "native" ? 40 : 88, 10),
  );
  put(solid(at(-0.24, 0.12, -0.35, 0.03), size(0.1, 0.13, 0.2)), vary(45, 12));

  // Psoas, spine, and the muscles of the back.
  for (const side of [-1, 1]) {
    const psoas = solid(at(side * 0.28, 0.62, -0.75), size(0.14, 0.22, 0.95, 0.08));
    put(psoas, vary(60, 4));
    const back = solid(at(side * 0.33, 1.1, 0), [0.3 * a, 0.2 * b, ENDLESS], {
      exponent: 2.4,
    });
    put(back, vary(58, 4), { soft: false, texture: 8 });
  }
  const bone = vary(210, 30);
  put(solid(at(0, 0.7, 0), [0.185 * a, 0.2 * b, ENDLESS], { exponent: 2.4 }), bone, {
    soft: false,
    texture: 25,
  });
  for (const side of [-1, 1]) {
    put(tube(at(side * 0.1, 0.95, -2), at(side * 0.1, 0.95, 2), 0.075 * b), bone + 90, { soft: false });
    put(solid(at(side * 0.24, 1.02, 0), [0.13 * a, 0.05 * b, ENDLESS]), bone, {
      soft: false,
    });
  }
  put(solid(at(0, 1.19, 0), [0.035 * a, 0.16 * b, ENDLESS]), bone + 60, { soft: false });
  put(solid(at(0, 0.98, 0), [0.085 * a, 0.085 * b, ENDLESS]), 30, { soft: false });

  // Great vessels.
  put(tube(at(0.07, 0.42, -2), at(0.05, 0.4, 2), random.between(0.085, 0.11) * b), vary(hu.aorta, 15));
  put(
    tube(at(-0.15, 0.42, -2), at(-0.13, 0.3, 2), random.between(0.09, 0.12) * b),
    vary(hu.vessels - 10, 10),
  );

  // Kidneys with a fatty sinus.
  for (const side of [-1, 1]) {
    const centre = at(side * 0.5, 0.46, side < 0 ? -0.36 : -0.22, 0.03);
    const kidney = solid(centre, size(0.19, 0.26, 0.46), { angle: side * random.between(0.3, 0.7) });
    const sinus = solid([centre[0] - side * 0.1 * a, centre[1] - 0.06 * b, centre[2]], size(0.1, 0.08, 0.2));
    put(kidney, vary(hu.kidneys, 15), { texture: 8, organ: "kidneys" });
    put(sinus, -40);
  }

  // Stomach: fluid or food, with a bubble of gas in front, where a supine patient has it.
  const stomachAt = at(0.36, -0.3, 0.28, 0.05);
  const stomachSize = size(0.32, 0.34, 0.42, 0.2);
  const stomach = within(
    solid(stomachAt, stomachSize, { angle: random.between(-0.6, 0.1), exponent: 2.3 }),
    cavity,
  );
  put(stomach, vary(hu.stomach, 30), { texture: 12, organ: "stomach" });
  if (random.uniform() < 0.7) {
    const level = stomachAt[1] - stomachSize[1] * random.between(0.3, 0.75);
    const inner = solid(stomachAt, [stomachSize[0] * 0.9, stomachSize[1] * 0.9, stomachSize[2] * 0.9]);
    put(within(within(inner, inFrontOf(level)), cavity), -900, { organ: "stomach" });
  }

  put(
    within(
      solid(at(0.74, 0.28, 0.28, 0.04), size(0.19, 0.36, 0.38, 0.18), {
        angle: random.between(-0.5, 0),
        exponent: 2.2,
      }),
      cavity,
    ),
    vary(hu.spleen, 10),
    { texture: 6, organ: "spleen" },
  );

  paintLiver(random, { at, size, vary, put, cavity, hu, phase });
  return structures;
}

interface Brushes {
  at: (x: number, y: number, z: number, jitter?: number) => Point;
  size: (x: number, y: number, z: number, spread?: number) => Point;
  vary: (mean: number, spread: number) => number;
  put: (shape: Shape, intensity: number, more?: Partial<Structure>) => void;
  cavity: Shape;
  hu: (typeof intensities)[Phase];
  phase: Phase;
}

/**
 * Two lobes and a lower tip, with vessels that leave the porta, sometimes lesions, and the gallbladder
 * beneath.
 */
function paintLiver(random: Random, { at, size, vary, put, cavity, hu, phase }: Brushes): void {
  const right = solid(at(-0.52, -0.04, 0.14, 0.03), size(0.47, 0.74, 0.56), {
    angle: random.between(-0.15, 0.25),
    exponent: 2.4,
  });
  const left = solid(at(0.02, -0.48, 0.24, 0.03), size(0.42, 0.3, 0.34, 0.2), {
    angle: random.between(-0.2, 0.3),
  });
  const tip = solid(at(-0.68, 0.05, -0.3, 0.04), size(0.24, 0.42, 0.42, 0.2));
  const parenchyma = vary(hu.liver, 10);
  const liver = within(union([right, left, tip], 0.12), cavity);
  put(liver, parenchyma, { texture: 6, organ: "liver" });

  const porta = at(-0.26, 0.02, 0.05, 0.02);
  const vessels = vary(hu.vessels, 8);
  for (let i = 0; i < 7; i++) {
    const end = at(random.between(-0.85, 0), random.between(-0.6, 0.45), random.between(-0.15, 0.5));
    put(within(tube(porta, end, random.between(0.016, 0.028)), liver), vessels, { organ: "liver" });
  }
  const lesions = random.uniform() < 0.5 ? 1 + random.below(3) : 0;
  for (let i = 0; i < lesions; i++) {
    const centre = at(random.between(-0.8, -0.25), random.between(-0.45, 0.4), random.between(-0.2, 0.45));
    const radius = random.between(0.04, 0.11);
    const lesion = solid(centre, [radius, radius * random.between(0.8, 1.2), radius]);
    put(within(lesion, liver), parenchyma - random.between(25, 60), { organ: "liver" });
  }
  if (random.uniform() < 0.8) {
    put(solid(at(-0.22, -0.32, -0.22, 0.03), size(0.1, 0.15, 0.17, 0.2), { angle: 0.4 }), vary(10, 5));
  }
  // The duodenal cap touches the liver from below and is as bright as it without contrast agent.
  put(solid(at(-0.1, -0.15, -0.2, 0.03), size(0.12, 0.13, 0.12)), vary(phase === "native" ? 45 : 80, 12));
}
