/** Random numbers that are the same for the same seed (mulberry32), so that a failing round can be run again. */
export interface Random {
  /** From 0 up to, but not including, 1. */
  next(): number
  /** A whole number from least to most, both included. */
  int(least: number, most: number): number
  pick<T>(items: readonly [T, ...T[]]): T
  bytes(count: number): Uint8Array
}

export function randomFrom(seed: number): Random {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const int = (least: number, most: number): number => least + Math.floor(next() * (most - least + 1))
  return {
    next,
    int,
    pick: items => items[int(0, items.length - 1)] ?? items[0],
    bytes: count => Uint8Array.from({ length: count }, () => int(0, 255)),
  }
}

/** How many rounds a seeded test runs: few by hand, more where nobody waits. */
export const rounds = Number(process.env.CAIRN_ROUNDS || 20)
