/**
 * Repeatable chance. Every use of it (a device's schedule, each of its values, its dropouts) has a generator
 * of its own, named by its labels: adding a value to a profile changes none of the others.
 */

/** Uniform in [0, 1). */
export type Random = () => number;

/** FNV-1a over UTF-16 units, finished with murmur3's mixer: labels that differ in one character part ways. */
function hash(text: string, basis: number): number {
  let value = basis >>> 0;
  for (let index = 0; index < text.length; index++) {
    value = Math.imul(value ^ text.charCodeAt(index), 0x0100_0193);
  }
  value = Math.imul(value ^ (value >>> 16), 0x85eb_ca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2_ae35);
  return (value ^ (value >>> 16)) >>> 0;
}

/** sfc32 (Chris Doty-Humphrey's Small Fast Counting generator, from PractRand), seeded by words. */
export function randomOf(seed: number, ...labels: string[]): Random {
  const name = [String(seed), ...labels].join("\u0000");
  let a = hash(name, 0x811c_9dc5);
  let b = hash(name, 0x9e37_79b9);
  let c = hash(name, 0x243f_6a88);
  let counter = 1;
  const next = (): number => {
    const result = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + result;
    c |= 0;
    return (result >>> 0) / 0x1_0000_0000;
  };
  // The author's advice: the first outputs still show the seed.
  for (let round = 0; round < 12; round++) next();
  return next;
}

/** In (-1, 1), most often near 0 (a triangle): noise that has a bound, which a Gaussian has not. */
export function noise(random: Random): number {
  return random() - random();
}

/** The gap to the next event of a Poisson process whose gaps are `mean` on average; never below 0. */
export function exponential(random: Random, mean: number): number {
  return -Math.log(1 - random()) * mean;
}
