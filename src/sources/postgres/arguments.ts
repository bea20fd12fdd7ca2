/** What pg_dump and pg_dumpall may be told beside our own arguments (PostgreSQL docs, "pg_dump", "pg_dumpall"). */

/** An argument that is refused, and what to do instead. */
export interface Refused {
  readonly argument: string
  readonly instead: string
}

const connection = 'the options of the source say where to connect: url, host, port, user, password, database'
const output = 'the output goes to the stores; nothing to say'
const shape = 'say "format"'
const compression = 'compression is a stage: say "compression" in the job'
const moment = 'Cairn exports a snapshot itself'
const nothing = 'it would print something else than a dump; run the program by hand'

const refusedLong: Readonly<Record<string, string>> = {
  file: output,
  format: shape,
  jobs: 'say "jobs", with "format: directory"',
  compress: compression,
  snapshot: moment,
  dbname: connection,
  database: connection,
  host: connection,
  port: connection,
  username: connection,
  password: connection,
  'no-password': connection,
  help: nothing,
  version: nothing,
}

const refusedShort: Readonly<Record<string, string>> = {
  f: output,
  F: shape,
  j: 'say "jobs", with "format: directory"',
  Z: compression,
  d: connection,
  l: connection,
  h: connection,
  p: connection,
  U: connection,
  W: connection,
  w: connection,
  V: nothing,
  '?': nothing,
}

/** Long options that take a value; newer programs may know more. */
const valued = [
  ...[
    'schema',
    'exclude-schema',
    'table',
    'exclude-table',
    'exclude-table-data',
    'extension',
    'exclude-extension',
  ],
  ...[
    'table-and-children',
    'exclude-table-and-children',
    'exclude-table-data-and-children',
    'exclude-database',
  ],
  ...[
    'encoding',
    'superuser',
    'role',
    'section',
    'lock-wait-timeout',
    'extra-float-digits',
    'rows-per-insert',
  ],
  ...['include-foreign-data', 'filter', 'restrict-key', 'sync-method'],
]

/** With one of these not everything comes into the dump, or not its rows. */
const partial = [
  ...valued.filter(name => /schema|table|extension|database|section|filter/.test(name)),
  ...['schema-only', 'data-only', 'statistics-only', 'roles-only', 'globals-only', 'tablespaces-only'],
  ...['no-schema', 'no-data', 'no-large-objects', 'no-blobs', 'no-unlogged-table-data'],
]

/** Letters that take a value, with either program; `t` alone is a flag of pg_dumpall. */
const valuedLetters = (whole: boolean): string => (whole ? 'ES' : 'EnNtTeS')
const partialLetters = (whole: boolean): string => (whole ? 'agrst' : 'aBnNtTes')

/** The first argument that would take the dump out of our hands, or null. Abbreviations and bundles count as what they stand for. */
export function refusedArgument(args: readonly string[], whole: boolean): Refused | null {
  for (let index = 0; index < args.length; index++) {
    const argument = args[index] ?? ''
    const long = /^--([^=]+)(=?)/.exec(argument)
    const instead = long
      ? refusedOption(long[1] ?? '', long[2] === '=')
      : refusedBundle(argument, whole, index + 1 < args.length)
    if (instead !== null) return { argument: long?.[0].replace(/=$/, '') ?? shown(argument), instead }
    if (!long && takesNext(argument, whole)) index++
  }
  return null
}

/** A bare word may be a connection string, with a password in it. */
function shown(argument: string): string {
  return argument.startsWith('-') ? argument.slice(0, 2) : 'a word without an option'
}

function refusedOption(name: string, hasValue: boolean): string | null {
  const full = Object.keys(refusedLong).find(each => each.startsWith(name))
  if (full !== undefined) return refusedLong[full] ?? ''
  const isShort = valued.some(each => each.startsWith(name)) && !hasValue
  return isShort ? `write it as one: "--${name}=..."` : null
}

/** `-s`, `-Oxf`, `-n name`, `-nname`. */
function refusedBundle(argument: string, whole: boolean, hasNext: boolean): string | null {
  if (!/^-[^-]/.test(argument))
    return 'options begin with "-", and have their value in the same word: "--schema=app"'
  for (const [index, letter] of [...argument.slice(1)].entries()) {
    const instead = refusedShort[letter]
    if (instead !== undefined) return instead
    if (!valuedLetters(whole).includes(letter)) continue
    return index === argument.length - 2 && !hasNext ? `-${letter} needs a value` : null
  }
  return null
}

/** True where the value of the last letter is the next argument. */
function takesNext(argument: string, whole: boolean): boolean {
  const at = [...argument.slice(1)].findIndex(letter => valuedLetters(whole).includes(letter))
  return at >= 0 && at === argument.length - 2
}

/** The arguments by which something is left out of the dump. */
export function partialArguments(args: readonly string[], whole: boolean): string[] {
  return args.filter((argument, index) => {
    const long = /^--([^=]+)/.exec(argument)?.[1]
    if (long !== undefined) return partial.some(name => name.startsWith(long))
    const before = args[index - 1]
    if (before !== undefined && !before.startsWith('--') && takesNext(before, whole)) return false
    const letters = argument.slice(1).split('')
    const end = letters.findIndex(letter => valuedLetters(whole).includes(letter))
    return letters
      .slice(0, end < 0 ? letters.length : end + 1)
      .some(letter => partialLetters(whole).includes(letter))
  })
}
