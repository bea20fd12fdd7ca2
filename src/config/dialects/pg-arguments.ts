import { type Argument, type Lift, lift, programOptions, readArguments, type Sorted } from './arguments.ts'

const connection = { host: 'h=', port: 'p=', username: 'U=', 'no-password': 'w', password: 'W' }

const shared = {
  ...{ file: 'f=', verbose: 'v', version: 'V', help: '?', encoding: 'E=', superuser: 'S=' },
  ...{
    'data-only': 'a',
    clean: 'c',
    'no-owner': 'O',
    'schema-only': 's',
    'no-privileges': 'x',
    'no-acl': '',
  },
  ...{ 'lock-wait-timeout': '=', 'extra-float-digits': '=', 'rows-per-insert': '=', role: '=', filter: '=' },
  ...{ 'restrict-key': '=', 'binary-upgrade': '', 'column-inserts': '', inserts: '', 'if-exists': '' },
  ...{ 'disable-dollar-quoting': '', 'disable-triggers': '', 'load-via-partition-root': '', statistics: '' },
  ...{ 'no-comments': '', 'no-data': '', 'no-policies': '', 'no-publications': '', 'no-schema': '' },
  ...{ 'no-security-labels': '', 'no-statistics': '', 'no-subscriptions': '', 'no-sync': '' },
  ...{ 'no-table-access-method': '', 'no-tablespaces': '', 'no-toast-compression': '' },
  ...{ 'no-unlogged-table-data': '', 'on-conflict-do-nothing': '', 'quote-all-identifiers': '' },
  ...{ 'sequence-data': '', 'statistics-only': '', 'use-set-session-authorization': '' },
}

/** PostgreSQL docs, "pg_dump": up to version 18. */
const pgDump = programOptions({
  ...connection,
  ...shared,
  ...{
    dbname: 'd=',
    format: 'F=',
    jobs: 'j=',
    compress: 'Z=',
    snapshot: '=',
    'sync-method': '=',
    create: 'C',
  },
  ...{ 'large-objects': 'b', blobs: '', 'no-large-objects': 'B', 'no-blobs': '', section: '=' },
  ...{ schema: 'n=', 'exclude-schema': 'N=', table: 't=', 'exclude-table': 'T=', extension: 'e=' },
  ...{ 'exclude-table-data': '=', 'exclude-extension': '=', 'table-and-children': '=' },
  ...{ 'exclude-table-and-children': '=', 'exclude-table-data-and-children': '=' },
  ...{ 'include-foreign-data': '=', 'enable-row-security': '', 'serializable-deferrable': '' },
  'strict-names': '',
})

/** PostgreSQL docs, "pg_dumpall". */
const pgDumpall = programOptions({
  ...connection,
  ...shared,
  ...{ dbname: 'd=', database: 'l=', 'globals-only': 'g', 'roles-only': 'r', 'tablespaces-only': 't' },
  ...{ 'exclude-database': '=', 'no-role-passwords': '' },
})

const lifts: Readonly<Record<string, Lift>> = {
  host: { as: 'host', kind: 'text' },
  port: { as: 'port', kind: 'number' },
  username: { as: 'user', kind: 'text' },
}

/** pg_dump's, or with `whole` pg_dumpall's. What it says that Cairn cannot let it do is left for the source to refuse. */
export function pgArguments(words: readonly string[], whole: boolean): Sorted {
  const lifted: Record<string, unknown> = {}
  const rest: string[] = []
  const notes: string[] = []
  const read = readArguments(words, whole ? pgDumpall : pgDump)
  for (const argument of read) {
    const { name, value, word } = argument
    const found = lifts[name ?? '']
    if (found && value !== undefined) lift(lifted, found, value)
    else if (name === 'dbname') lift(lifted, { as: 'url', kind: 'secret' }, value ?? '', name)
    else if (name === 'format' && /^(c(ustom)?|t(ar)?)$/.test(value ?? '')) {
      lifted.format = 'custom'
      if (value?.startsWith('t')) notes.push('--format=tar: it is custom, which pg_restore takes as well')
    } else if (!isNeedless(argument, notes, whole)) rest.push(word)
  }
  // Without it, what is not there yet could not be dropped, and the restore would end there.
  if (has(read, 'clean') && !has(read, 'if-exists')) rest.push('--if-exists')
  return { lifted: withoutNames(lifted, whole), rest, notes }
}

function has(read: readonly Argument[], name: string): boolean {
  return read.some(each => each.name === name)
}

/** What Cairn does anyway, or in another way. */
function isNeedless({ name, value = '' }: Argument, notes: string[], whole: boolean): boolean {
  switch (name) {
    case 'no-password':
    case 'password':
    case 'database':
      return true
    case 'format':
      return /^p(lain)?$/.test(value)
    case 'serializable-deferrable':
      notes.push('--serializable-deferrable: left out, because Cairn takes the snapshot')
      return true
    case 'compress':
      if (whole) return false
      if (!/^(0|none)(:|$)/.test(value)) notes.push('--compress: left out, because gzip follows')
      return true
    default:
      return false
  }
}

/**
 * `--dbname` is a connection string, or a name alone, which is of no use: which databases are dumped stands elsewhere.
 * Before the name of one database, where the old tool put it, `--host` won over it.
 */
function withoutNames({ url, ...rest }: Record<string, unknown>, whole: boolean): Record<string, unknown> {
  const text = typeof url === 'object' ? (url as { value: string }).value : ''
  const isUsed = /^postgres(ql)?:\/\/|=/.test(text) && (whole || rest.host === undefined)
  return isUsed ? { ...rest, url } : rest
}
