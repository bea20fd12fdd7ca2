import type { Context } from '../../model/context.ts'
import type { Artifact } from '../../model/source.ts'
import type { Program } from '../../model/step.ts'
import { applicationName, watch } from './activity.ts'
import type { Clients } from './clients.ts'
import { type Connection, loginOf, noticingItsEnd } from './connection.ts'
import { asTar, type FolderDump, writtenInto } from './directory.ts'
import { judged } from './explain.ts'
import { quoteConninfo } from './sql.ts'

/** How pg_dump writes a database. */
export type DumpFormat = 'custom' | 'plain' | 'directory'

/** What all programs of one backup share. */
export interface Dumping {
  /** To the very server and database. */
  readonly connection: Connection
  /** The server's version: 150018. */
  readonly num: number
  readonly clients: Clients
  readonly standby: boolean
  readonly rolePasswords: boolean
  /** The user's own arguments. */
  readonly args: readonly string[]
  /** The names under which our programs are connected now: `whySilent` looks for them. */
  readonly running: Map<string, Connection>
  /** What looks at the server while they run. */
  readonly watches: AsyncDisposableStack
}

const shapes = {
  custom: { suffix: 'dump', media: 'pg_dump-custom' },
  plain: { suffix: 'sql', media: 'sql' },
  directory: { suffix: 'tar', media: 'pg_dump-directory' },
} as const

/** One database, as pg_dump sees it through the snapshot. `bytes`: its size at the server. */
export function databaseArtifact(
  d: Dumping,
  o: {
    readonly snapshot: string
    /** The database's. */
    readonly encoding: unknown
    readonly bytes: number
    readonly format: DumpFormat
    readonly jobs: number
  },
): Artifact {
  const { suffix, media } = shapes[o.format]
  const name = `postgres/${d.connection.database}.${suffix}`
  const args = [
    // First the user's: of two that contradict each other, PostgreSQL's programs take the later one.
    ...d.args,
    '--no-password',
    `--format=${o.format}`,
    // Compression is a stage's work; level 0 keeps the archive's own out of its way.
    ...(o.format === 'plain' ? [] : ['--compress=0']),
    `--snapshot=${o.snapshot}`,
    ...standbyArgs(d),
  ]
  const dump = (ctx: Context, more: readonly string[] = []): Program => {
    const plain = program(d, 'pg_dump', [...args, ...more], ctx)
    // Not what the role is set to, in which there may be no word for what the database holds.
    return { ...plain, env: { ...plain.env, PGCLIENTENCODING: String(o.encoding) } }
  }
  const about = { name, media, role: 'data', sizeHint: o.bytes } as const
  if (o.format !== 'directory') return { ...about, open: dump }
  const folder = (ctx: Context): FolderDump => ({
    ...{ name, bytes: o.bytes },
    dump: more => dump(ctx, [`--jobs=${o.jobs}`, ...more]),
  })
  return {
    ...about,
    open: ctx => asTar(folder(ctx), ctx),
    intoFolder: (path, ctx) => writtenInto(path, folder(ctx), ctx),
  }
}

/** Everything that the server holds, as one script. */
export function wholeArtifact(d: Dumping, bytes: number): Artifact {
  return {
    name: 'postgres/all.sql',
    media: 'sql',
    role: 'data',
    sizeHint: bytes,
    open: ctx => program(d, 'pg_dumpall', [...d.args, ...globalArgs(d), ...standbyArgs(d)], ctx),
  }
}

/**
 * Roles, memberships and tablespaces: what the database needs and a dump of it does not hold. In UTF-8, as whoever restores
 * them reads them; where the database has no encoding (SQL_ASCII), as the bytes they are.
 */
export function globalsArtifact(d: Dumping, encoding: unknown): Artifact {
  const login = loginOf(noticingItsEnd(d.connection, d.num), applicationName('pg_dumpall'))
  return {
    name: 'postgres/globals.sql',
    media: 'sql',
    role: 'globals',
    open: () => ({
      program: d.clients.path('pg_dumpall'),
      args: ['--globals-only', ...globalArgs(d)],
      ...login,
      env: { ...login.env, ...(encoding === 'SQL_ASCII' ? {} : { PGCLIENTENCODING: 'UTF8' }) },
      judge: judged('pg_dumpall'),
    }),
  }
}

function globalArgs(d: Dumping): string[] {
  return [
    '--no-password',
    // pg_dumpall takes this for a connection string where it looks like one: so it is one.
    `--database=dbname=${quoteConninfo(d.connection.database)}`,
    ...(d.rolePasswords ? [] : ['--no-role-passwords']),
  ]
}

/** A standby cannot read them (PostgreSQL docs, "Hot Standby"). */
function standbyArgs({ standby }: Dumping): string[] {
  return standby ? ['--no-unlogged-table-data'] : []
}

function program(d: Dumping, name: 'pg_dump' | 'pg_dumpall', args: readonly string[], ctx: Context): Program {
  const known = applicationName(name)
  d.running.set(known, d.connection)
  // pg_dump reads the catalogs of a hundred thousand tables without a byte of output.
  d.watches.use(watch(d.connection, known, 'the dump', ctx, 'new'))
  const judge = judged(name)
  return {
    program: d.clients.path(name),
    args,
    ...loginOf(noticingItsEnd(d.connection, d.num), known),
    writesSmallBlocks: true,
    judge(exit, stderrTail) {
      d.running.delete(known)
      return judge(exit, stderrTail)
    },
  }
}
