/** A text of a configuration as it was read, and where it stands. */
export interface Text {
  readonly path: readonly PropertyKey[]
  readonly text: string
}

/** All of them, in their order. */
export function* textsIn(value: unknown, path: readonly PropertyKey[] = []): Generator<Text> {
  if (typeof value === 'string') yield { path, text: value }
  if (typeof value !== 'object' || value === null) return
  const entries: Iterable<[PropertyKey, unknown]> = Array.isArray(value)
    ? value.entries()
    : Object.entries(value)
  for (const [key, inner] of entries) yield* textsIn(inner, [...path, key])
}
