import { type Argument, type Lift, lift, programOptions, readArguments, type Sorted } from './arguments.ts'

/** MariaDB docs, "mariadb-dump"; MySQL docs, "mysqldump". What neither knows is passed on. */
const options = programOptions({
  ...{ 'all-databases': 'A', databases: 'B', 'all-tablespaces': 'Y', 'no-tablespaces': 'y', comments: 'i' },
  ...{ 'complete-insert': 'c', compress: 'C', 'create-options': 'a', 'disable-keys': 'K', events: 'E' },
  ...{ 'extended-insert': 'e', 'flush-logs': 'F', force: 'f', host: 'h=', 'lock-all-tables': 'x' },
  ...{ 'lock-tables': 'l', 'no-create-db': 'n', 'no-create-info': 't', 'no-data': 'd', 'no-set-names': 'N' },
  ...{ password: 'p?', port: 'P=', quick: 'q', 'quote-names': 'Q', 'result-file': 'r=', routines: 'R' },
  ...{ socket: 'S=', tab: 'T=', user: 'u=', verbose: 'v', version: 'V', where: 'w=', xml: 'X', help: '?' },
  ...{ 'dump-history': 'H', debug: '#?', 'debug-info': '', 'debug-check': '', 'print-defaults': '' },
  ...{ 'defaults-file': '=', 'defaults-extra-file': '=', 'defaults-group-suffix': '=', 'no-defaults': '' },
  ...{ 'ssl-ca': '=', 'ssl-capath': '=', 'ssl-cert': '=', 'ssl-cipher': '=', 'ssl-key': '=', 'ssl-crl': '=' },
  ...{ 'ssl-crlpath': '=', 'ssl-mode': '=', ssl: '?', 'skip-ssl': '', 'tls-version': '=', protocol: '=' },
  ...{ 'ssl-verify-server-cert': '?', 'skip-ssl-verify-server-cert': '', 'plugin-dir': '=', system: '=' },
  ...{ 'default-auth': '=', 'default-character-set': '=', 'character-sets-dir': '=', compatible: '=' },
  ...{ 'ignore-table': '=', 'ignore-table-data': '=', 'ignore-database': '=', 'log-error': '=' },
  ...{ 'max-allowed-packet': '=', 'max-statement-time': '=', 'net-buffer-length': '=', 'as-of': '=' },
  ...{ 'fields-terminated-by': '=', 'fields-enclosed-by': '=', 'fields-optionally-enclosed-by': '=' },
  ...{ 'fields-escaped-by': '=', 'lines-terminated-by': '=', 'master-data': '?', 'dump-slave': '?' },
  ...{ 'single-transaction': '?', 'skip-single-transaction': '', 'skip-lock-tables': '', opt: '?' },
  ...{ 'skip-opt': '', 'skip-comments': '', 'skip-quote-names': '', triggers: '?', 'hex-blob': '?' },
  ...{ compact: '', tables: '', header: '', 'add-drop-database': '', 'add-drop-table': '' },
  ...{ 'add-drop-trigger': '', 'add-locks': '', 'no-autocommit': '', 'no-data-med': '', replace: '' },
})

const text = (as: string): Lift => ({ as, kind: 'text' })

const lifts: Readonly<Record<string, Lift>> = {
  host: text('host'),
  port: { as: 'port', kind: 'number' },
  socket: text('socket'),
  user: text('user'),
  password: { as: 'password', kind: 'secret' },
  'defaults-file': text('defaultsFile'),
  'defaults-extra-file': text('defaultsExtraFile'),
  'defaults-group-suffix': text('defaultsGroupSuffix'),
  'ssl-ca': text('ssl.ca'),
  'ssl-cert': text('ssl.cert'),
  'ssl-key': text('ssl.key'),
}

/** What Cairn says itself, or what the old tool's own arguments overruled. */
const needless = new Set([
  ...['single-transaction', 'skip-single-transaction', 'lock-tables', 'quick', 'opt', 'databases'],
  ...['routines', 'events', 'triggers', 'hex-blob', 'no-tablespaces', 'comments', 'quote-names', 'password'],
])

/** The opposite of what Cairn says itself. */
function isOverruled({ name, value }: Argument): boolean {
  if (name === 'skip-single-transaction') return true
  return name !== null && name !== 'password' && needless.has(name) && isOff(value)
}

function isOff(value: string | undefined): boolean {
  return /^(0|false|off)$/i.test(value ?? '')
}

/** What a restore needs, or what would hide errors: the dump holds the same data without it. */
const leftOut: Readonly<Record<string, string>> = {
  compact: 'a restore needs what it leaves away',
  'skip-comments': 'the last comment says that the dump is whole',
  'skip-quote-names': 'names are quoted always',
  'log-error': 'errors are in what Cairn says',
  system: 'users and their privileges are saved by Cairn, with BACKUP_ALL',
}

/** mariadb-dump's or mysqldump's. Passwords are taken out, so that no process list shows them. */
export function mariadbArguments(words: readonly string[], whole: boolean): Sorted {
  const lifted: Record<string, unknown> = {}
  const rest: string[] = []
  const notes: string[] = []
  const exclude: string[] = []
  let protocol = ''
  for (const argument of readArguments(words, options)) {
    const { name, value, word } = argument
    const found = lifts[name ?? '']
    const why = leftOut[name ?? '']
    if (found && value !== undefined) lift(lifted, found, value)
    else if (why !== undefined) notes.push(`--${name}: left out, because ${why}`)
    // Cairn names the databases, with which mariadb-dump takes no such option.
    else if (whole && name === 'ignore-database' && value !== undefined) exclude.push(value)
    else if (name === 'protocol') protocol = (value ?? '').toLowerCase()
    else if (isOverruled(argument)) notes.push(`${word}: left out, because Cairn needs it otherwise`)
    else if (needless.has(name ?? '') || (whole && name === 'all-databases')) continue
    else if (!connects(argument, lifted)) rest.push(longWord(argument) ?? word)
  }
  // Every host but the local one is reached by TCP anyway.
  if (protocol === 'tcp' && lifted.host === 'localhost') lifted.host = '127.0.0.1'
  return { lifted: exclude.length > 0 ? { ...lifted, exclude } : lifted, rest, notes }
}

/** The source takes long options only, whose beginnings it can tell apart. */
function longWord({ name, value }: Argument): string | null {
  return name === null ? null : value === undefined ? `--${name}` : `--${name}=${value}`
}

/** What else says how to connect: our own connections must do the same. */
function connects({ name, value }: Argument, lifted: Record<string, unknown>): boolean {
  switch (name) {
    case 'no-defaults':
      lifted.defaultsFile = '/dev/null'
      return true
    case 'ssl':
      lift(lifted, text('ssl.mode'), isOff(value) ? 'disabled' : 'required')
      return true
    case 'skip-ssl':
      lift(lifted, text('ssl.mode'), 'disabled')
      return true
    case 'ssl-mode':
      lift(lifted, text('ssl.mode'), (value ?? '').toLowerCase().replace('_', '-'))
      return true
    case 'ssl-verify-server-cert':
      lift(lifted, text('ssl.mode'), isOff(value) ? 'preferred' : 'verify-identity')
      return true
    case 'skip-ssl-verify-server-cert':
      lift(lifted, text('ssl.mode'), 'preferred')
      return true
    default:
      return false
  }
}
