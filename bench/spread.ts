/** The least, the middle and the most of several measurements: what else a machine does makes one alone worthless. */
export interface Spread {
  readonly min: number
  readonly median: number
  readonly max: number
}

export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  const lower = sorted[Math.ceil(middle) - 1] ?? Number.NaN
  const upper = sorted[Math.floor(middle)] ?? Number.NaN
  return { min: sorted[0] ?? Number.NaN, median: (lower + upper) / 2, max: sorted.at(-1) ?? Number.NaN }
}

/** `3.1-3.4-4.0`: min-median-max. */
export function showSpread(values: readonly number[], digits = 2): string {
  const { min, median, max } = spread(values)
  return [min, median, max].map(value => value.toFixed(digits)).join('-')
}

/** Columns as wide as their widest cell, the first to the left and the others to the right. */
export function columns(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map(row => row[column]?.length ?? 0)))
  const line = (row: readonly string[]): string =>
    row.map((cell, n) => (n === 0 ? cell.padEnd(widths[n] ?? 0) : cell.padStart(widths[n] ?? 0))).join('  ')
  return rows.map(row => line(row).trimEnd()).join('\n')
}
