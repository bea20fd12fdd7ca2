/** Options whose `${NAME}` is the shell's, a pattern's or another program's; and a secret that is said to be as it stands. */
const taken = new Set(['hooks', 'key', 'args', 'exclude', 'tags', 'command', 'value'])

/**
 * Where `${NAME}` stands as compose files have it. Nothing replaces it in cairn.yaml: it would be a password that is wrong,
 * a host that is not there, or a folder of that name.
 */
export function unreplaced(
  value: unknown,
  path: readonly PropertyKey[] = [],
): { path: readonly PropertyKey[]; text: string }[] {
  if (typeof value === 'string') {
    const [variable, name] = /\$\{([A-Za-z_]\w*)(:?[-?+][^}]*)?\}/.exec(value) ?? []
    if (variable === undefined) return []
    const text = `${path.join('.')}: \${${name}} is not replaced here; where a secret is taken, { env: ${name} } reads the variable`
    return [{ path, text }]
  }
  if (typeof value !== 'object' || value === null) return []
  const entries: [PropertyKey, unknown][] = Array.isArray(value)
    ? [...value.entries()]
    : Object.entries(value)
  return entries
    .filter(([key]) => typeof key === 'number' || !taken.has(String(key)))
    .flatMap(([key, inner]) => unreplaced(inner, [...path, key]))
}
