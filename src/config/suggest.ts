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

/** Insertions, deletions and replacements from one word to the other (Levenshtein). */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (const [i, left] of [...a].entries()) {
    const row = [i + 1]
    for (const [j, right] of [...b].entries()) {
      const replace = (previous[j] ?? 0) + (left === right ? 0 : 1)
      row.push(Math.min(replace, (previous[j + 1] ?? 0) + 1, (row[j] ?? 0) + 1))
    }
    previous = row
  }
  return previous.at(-1) ?? 0
}
