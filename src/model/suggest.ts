/** The word among `known` that was probably meant, or null: at most a third of its letters may be wrong. */
export function suggest(word: string, known: Iterable<string>): string | null {
  let best: { word: string; distance: number } | null = null
  for (const candidate of known) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase())
    if (distance <= Math.max(1, candidate.length / 3) && (!best || distance < best.distance)) {
      best = { word: candidate, distance }
    }
  }
  return best?.word ?? null
}

/** Insertions, deletions, replacements and swaps of neighbours from one word to the other (optimal string alignment). */
export function editDistance(a: string, b: string): number {
  let before: number[] = []
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 0; i < a.length; i++) {
    const row = [i + 1]
    for (let j = 0; j < b.length; j++) {
      const replace = (previous[j] ?? 0) + (a[i] === b[j] ? 0 : 1)
      const isSwap = i > 0 && j > 0 && a[i] === b[j - 1] && a[i - 1] === b[j]
      const swap = isSwap ? (before[j - 1] ?? 0) + 1 : Number.POSITIVE_INFINITY
      row.push(Math.min(replace, swap, (previous[j + 1] ?? 0) + 1, (row[j] ?? 0) + 1))
    }
    before = previous
    previous = row
  }
  return previous.at(-1) ?? 0
}
