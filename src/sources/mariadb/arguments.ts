// What users, and their option files, may tell the dump programs, and what it means for the dump.

/** Options that are not a user's, and why. */
const refused: readonly (readonly [why: string, names: readonly string[]])[] = [
  [
    'it would stand in the list of processes: say "password"',
    ['password', 'password1', 'password2', 'password3'],
  ],
  ['the dump goes where the stores are', ['result-file', 'tab', 'log-error', 'dir']],
  [
    'it has an option of its own: host, port, socket, user, ssl, databases, exclude, defaultsFile',
    ['host', 'port', 'socket', 'user', 'protocol', 'databases', 'all-databases', 'tables', 'defaults-file'],
  ],
  [
    'it only works as the first argument: say defaultsFile or defaultsExtraFile',
    ['defaults-extra-file', 'no-defaults'],
  ],
  [
    'the dump could not be restored, or not be known to be whole',
    ['force', 'compact', 'skip-comments', 'comments', 'skip-quote-names', 'quote-names', 'xml', 'compatible'],
  ],
  [
    'the dump would not be of one moment',
    ['skip-single-transaction', 'single-transaction', 'lock-tables', 'lock-all-tables'],
  ],
  [
    'the accounts have an option of their own (globals), and all else of it could not be restored',
    ['system'],
  ],
  ['it prints no dump', ['help', 'version', 'print-defaults', 'debug-info', 'debug']],
]

/** What is wrong with the first argument that would give away a password, lead the dump elsewhere, or break it; null: none would. */
export function refusedArgument(args: readonly string[]): string | null {
  for (const arg of args) {
    const { name } = readOption(arg)
    // The argument may hold a secret: only its name is repeated.
    const shown = /^(--[\w-]*|-\w?)/.exec(arg)?.[0] || 'an argument'
    if (name === '')
      return `${shown} is not a long option: write --name or --name=value; databases and tables are not given here`
    const found = refused.find(([, names]) => isAmong(names, name))
    if (found) return `--${name} cannot be given: ${found[0]}`
  }
  return null
}

/** With one of these in an option file the dump goes elsewhere, or cannot be restored. */
const breaking = [
  ...[
    'result-file',
    'tab',
    'dir',
    'xml',
    'compact',
    'compatible',
    'force',
    'skip-comments',
    'skip-quote-names',
  ],
  ...['databases', 'all-databases', 'tables'],
]

/** With one of these not everything comes into the dump. */
const partial = [
  ...['where', 'ignore-table', 'ignore-table-data', 'ignore-database', 'no-data', 'no-create-info'],
  ...['skip-opt', 'skip-create-options', 'skip-tz-utc'],
]

/** Of these options, those by which something is left out, as `--name`. */
export function leavingOut(options: readonly string[]): string[] {
  return meant(options, partial)
}

/** The first of these options of a file that must not stand there, as `--name`. */
export function breakingOption(options: readonly string[]): string | undefined {
  return meant(options, breaking)[0]
}

/** Options of this list, as what they mean: `--comments=0` is `--skip-comments`. */
function meant(options: readonly string[], names: readonly string[]): string[] {
  return options.flatMap(option => {
    const { name, value } = readOption(option)
    const plain = name.replace(/^disable-/, 'skip-')
    const said = /^(0|off|false)$/i.test(value) ? `skip-${plain}` : plain
    return name !== '' && isAmong(names, said) ? [`--${said}`] : []
  })
}

/** The programs take underscores for hyphens, and pass over what is unknown after `loose`. The name is empty where it is no long option. */
function readOption(option: string): { readonly name: string; readonly value: string } {
  const [, name = '', value = ''] = /^--(?:loose[-_])?([A-Za-z0-9][\w-]+)(?:=(.*))?$/s.exec(option) ?? []
  return { name: name.toLowerCase().replaceAll('_', '-'), value }
}

/** Any unambiguous beginning of a name is taken for it. */
function isAmong(names: readonly string[], said: string): boolean {
  return names.some(name => name.startsWith(said))
}
