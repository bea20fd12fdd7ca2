/** What arguments of a dump program say about the connection, as options of the source. */
export type Lifted = Readonly<Record<string, unknown>>

/** Arguments of a dump program, taken apart. */
export interface Sorted {
  readonly lifted: Lifted
  /** What is left for the program. */
  readonly rest: readonly string[]
}

/** An option of the program that is an option of the source. */
interface Rule {
  readonly long: string
  readonly short?: string
  /** The name in the configuration, with a dot for an inner one; '' for what Cairn does anyway. */
  readonly as: string
  readonly value: 'text' | 'number' | 'secret' | 'none'
}

const postgresRules: readonly Rule[] = [
  { long: 'host', short: 'h', as: 'host', value: 'text' },
  { long: 'port', short: 'p', as: 'port', value: 'number' },
  { long: 'username', short: 'U', as: 'user', value: 'text' },
  { long: 'dbname', short: 'd', as: 'url', value: 'secret' },
  { long: 'no-password', short: 'w', as: '', value: 'none' },
]

const mariadbRules: readonly Rule[] = [
  { long: 'host', short: 'h', as: 'host', value: 'text' },
  { long: 'port', short: 'P', as: 'port', value: 'number' },
  { long: 'socket', short: 'S', as: 'socket', value: 'text' },
  { long: 'user', short: 'u', as: 'user', value: 'text' },
  { long: 'password', short: 'p', as: 'password', value: 'secret' },
  { long: 'defaults-file', as: 'defaultsFile', value: 'text' },
  { long: 'defaults-extra-file', as: 'defaultsExtraFile', value: 'text' },
  { long: 'defaults-group-suffix', as: 'defaultsGroupSuffix', value: 'text' },
  { long: 'ssl-ca', as: 'ssl.ca', value: 'text' },
  { long: 'ssl-cert', as: 'ssl.cert', value: 'text' },
  { long: 'ssl-key', as: 'ssl.key', value: 'text' },
  { long: 'single-transaction', as: '', value: 'none' },
  { long: 'quick', short: 'q', as: '', value: 'none' },
  { long: 'routines', short: 'R', as: '', value: 'none' },
  { long: 'events', short: 'E', as: '', value: 'none' },
  { long: 'triggers', as: '', value: 'none' },
  { long: 'hex-blob', as: '', value: 'none' },
  { long: 'opt', as: '', value: 'none' },
]

/** pg_dump's or pg_dumpall's (PostgreSQL docs, "pg_dump"). A word without an option is a database, or a connection string. */
export function pgArguments(args: readonly string[]): Sorted {
  const sorted = sort(args, postgresRules)
  const { url, ...lifted } = sorted.lifted
  // A name alone is of no use: which databases are dumped stands elsewhere.
  const isConninfo = typeof url === 'object' && /^postgres(ql)?:|=/.test((url as { value: string }).value)
  return { lifted: isConninfo ? { ...lifted, url } : lifted, rest: sorted.rest }
}

/** mariadb-dump's or mysqldump's (MariaDB docs, "mariadb-dump"). Passwords are taken out, so that no process list shows them. */
export function dumpArguments(args: readonly string[]): Sorted {
  return sort(args, mariadbRules)
}

function sort(args: readonly string[], rules: readonly Rule[]): Sorted {
  const lifted: Record<string, unknown> = {}
  const rest: string[] = []
  for (let at = 0; at < args.length; at++) {
    const argument = args[at] ?? ''
    const found = ruleFor(argument, rules)
    if (!found) {
      rest.push(argument)
      continue
    }
    const { rule } = found
    // MariaDB's -p takes no word of its own: it would ask.
    const takesNext = found.value === undefined && rule.value !== 'none' && rule.as !== 'password'
    const value = takesNext ? args[++at] : found.value
    if (value !== undefined && rule.as !== '') put(lifted, rule, value)
  }
  return { lifted, rest }
}

/** `--host=x`, `--host x`, `-h x`, `-hx`. */
function ruleFor(argument: string, rules: readonly Rule[]): { rule: Rule; value: string | undefined } | null {
  const [, long, value] = /^--([^=]+)(?:=([\s\S]*))?$/.exec(argument) ?? []
  if (long !== undefined) {
    const rule = rules.find(each => each.long === long.replaceAll('_', '-'))
    return rule ? { rule, value } : null
  }
  const [, short, glued] = /^-([A-Za-z])([\s\S]*)$/.exec(argument) ?? []
  const rule = rules.find(each => each.short !== undefined && each.short === short)
  if (!rule || (rule.value === 'none' && glued !== '')) return null
  return { rule, value: glued === '' ? undefined : glued }
}

function put(into: Record<string, unknown>, { as, value: kind }: Rule, value: string): void {
  const shown = kind === 'number' ? Number(value) : kind === 'secret' ? { value } : value
  const [outer = '', inner] = as.split('.')
  if (inner === undefined) into[outer] = shown
  else into[outer] = { ...(into[outer] as object | undefined), [inner]: shown }
}
