/** Options whose `${NAME}` is the shell's, a pattern's or another program's; and a secret that is said to be as it stands. */
const taken = new Set(['hooks', 'key', 'args', 'exclude', 'tags', 'command', 'value'])

/**
 * Where `${NAME}` stands as compose files have it. Nothing replaces it in cairn.yaml: it would be a password that is wrong,
 * a host that is not there, or a folder of that name. What is more likely a part of a password is not quoted.
 */
export function unreplaced(
  value: unknown,
  path: readonly PropertyKey[] = [],
): { path: readonly PropertyKey[]; text: string }[] {
  if (typeof value === 'string') {
    const [variable, name] = /\$\{([A-Za-z_]\w*)(:?[-?+][^}]*)?\}/.exec(value) ?? []
    if (variable === undefined) return []
    const shown = value === variable || /^[A-Z_][A-Z\d_]*$/.test(`${name}`) ? name : 'NAME'
    const text = `${path.join('.')}: \${${shown}} is not replaced here; where a secret is taken, { env: ${shown} } reads the variable, and { value: … } means it as it stands`
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
