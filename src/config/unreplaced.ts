import { type Text, textsIn } from './texts.ts'

/** Options whose `${NAME}` is the shell's, a pattern's or another program's; and a secret that is said to be as it stands. */
const taken = new Set<PropertyKey>(['hooks', 'key', 'args', 'exclude', 'tags', 'command', 'value'])

/**
 * Where `${NAME}` stands as compose files have it. Nothing replaces it in cairn.yaml: it would be a password that is wrong,
 * a host that is not there, or a folder of that name. What is more likely a part of a password is not quoted.
 */
export function unreplaced(config: unknown): Text[] {
  return [...textsIn(config)].flatMap(({ path, text }) => {
    const [variable, name = ''] = /\$\{([A-Za-z_]\w*)(:?[-?+][^}]*)?\}/.exec(text) ?? []
    if (variable === undefined || path.some(key => taken.has(key))) return []
    const shown = text === variable || /^[A-Z_][A-Z\d_]*$/.test(name) ? name : 'NAME'
    const fault = `\${${shown}} is not replaced here; where a secret is taken, { env: ${shown} } reads the variable, and { value: … } means it as it stands`
    return [{ path, text: `${path.join('.')}: ${fault}` }]
  })
}
