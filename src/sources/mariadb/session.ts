import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import type { Warning } from '../../model/manifest.ts'
import { Secret } from '../../model/secret.ts'
import type { Artifact, Census, CensusLevel, Session, SourceFacts } from '../../model/source.ts'
import type { Program } from '../../model/step.ts'
import { accountScript, objectOf } from './account-script.ts'
import { type Account, type AccountsRead, readAccounts } from './accounts.ts'
import { leavingOut } from './arguments.ts'
import { takeCensus } from './census.ts'
import { type Clients, chooseClients } from './clients.ts'
import { flavourNames, showConnection } from './connection.ts'
import { dumpProgram, type Scope } from './dump.ts'
import { maybeRounded, roundedFloats } from './floats.ts'
import { changes, type Inventory, limits, takeInventory } from './inventory.ts'
import { toldByFiles } from './option-files.ts'
import { demandNames, demandWholeDump, type Reached, systemDatabases } from './server.ts'

export interface SessionOptions {
  readonly server: Reached
  readonly scope: Scope
  /** What the backup is of: a database's name, or `all`. */
  readonly unit: string
  readonly census: CensusLevel
  readonly args: readonly string[]
  /** Whether the accounts go with it; `inside`: in the dump itself. */
  readonly globals: boolean | 'inside'
}

/** What was found when the session was opened, and what is learnt while it is. */
interface Held extends Omit<SessionOptions, 'globals'> {
  readonly clients: Clients
  /** The options by which not everything comes into the dump. */
  readonly partial: readonly string[]
  readonly before: Inventory
  /** When the dump was started, and with it its snapshot. */
  dumpedAt: Date | null
  readonly warnings: Warning[]
  globals: 'full' | 'inside' | 'missing' | 'none'
}

/**
 * Holds nothing at the server between the artifacts: the dumper takes its own consistent snapshot (InnoDB docs, "Consistent
 * Nonlocking Reads"). What that does not cover is found by looking before and after. Throws a Failure.
 */
export async function openSession(options: SessionOptions, ctx: Context): Promise<Session> {
  const { server } = options
  const purpose = `back up ${showConnection(server.connection, options.unit)}`
  const clients = chooseClients(server.found, server.facts.series, purpose)
  demandWholeDump(server)
  const looking = takeInventory(server, options.scope.databases, ctx)
  const looked = looking.catch(() => {})
  const told = await toldByFiles(server.connection, clients, ctx).finally(() => looked)
  const partial = leavingOut([...told, ...options.args])
  const before = await looking
  demandNames(
    server,
    before.tables.map(({ name }) => name),
  )
  const held: Held = {
    ...options,
    clients,
    partial,
    before,
    dumpedAt: null,
    warnings: [
      ...partsOnly(partial),
      ...limits(before),
      ...(looksAtRows({ census: options.census, partial }) ? [] : maybeRounded(before)),
    ],
    globals: options.globals === 'inside' ? 'inside' : options.globals ? 'full' : 'none',
  }
  let reading: Promise<Artifact | null> = Promise.resolve(null)
  return {
    concurrency: 2,
    async *artifacts() {
      // They are asked for, and stored, while the dump is read.
      if (options.globals === 'inside') return yield dumpArtifact(held, await accountsAround(held, ctx))
      if (options.globals) reading = accountsArtifact(held, ctx)
      reading.catch(() => {})
      yield dumpArtifact(held, [])
      const accounts = await reading
      if (accounts) yield accounts
    },
    census: () => census(held, ctx),
    finish: () => finish(held, ctx),
    async [Symbol.asyncDispose]() {
      await reading.catch(() => {})
    },
  }
}

function dumpArtifact(held: Held, through: readonly Program[]): Artifact {
  const { server, scope, clients, before } = held
  const { flavour } = clients
  return {
    name: `${flavour}/${held.unit}.sql`,
    media: 'sql',
    role: 'data',
    through,
    sizeHint: before.tables.reduce((sum, table) => sum + table.bytes, 0),
    open(ctx) {
      held.dumpedAt = ctx.clock.now()
      return dumpProgram(server.connection, clients, server.facts.series, scope, held.args)
    },
  }
}

/** Users, roles and their privileges; null, with a warning, where they may not be read. */
async function readTheirs(held: Held, ctx: Context): Promise<AccountsRead | null> {
  const read = await readAccounts(held.server, ctx)
  if (read) held.warnings.push(...read.warnings.map(what => ({ what })))
  else {
    held.globals = 'missing'
    held.warnings.push({
      what: `users and their privileges are not saved: they may not be read (GRANT SELECT ON mysql.* TO the backup user)`,
    })
  }
  return read
}

async function accountsArtifact(held: Held, ctx: Context): Promise<Artifact | null> {
  const read = await readTheirs(held, ctx)
  if (!read) return null
  const { before, after } = accountScript(read.accounts)
  const script = Buffer.from(before + after)
  return {
    name: `${held.clients.flavour}/globals.sql`,
    media: 'sql',
    role: 'globals',
    sizeHint: script.byteLength,
    open: async function* () {
      yield script
    },
  }
}

/** What puts the accounts before and after the dump, as files without a name: its bytes stay with the kernel. */
async function accountsAround(held: Held, ctx: Context): Promise<Program[]> {
  const read = await readTheirs(held, ctx)
  if (!read) return []
  const { kept, left } = withinDump(read.accounts, held)
  if (left.length > 0)
    held.warnings.push({
      what: `privileges on what is not in the dump are not saved: ${left.slice(0, 20).join(', ')}${left.length > 20 ? ` and ${left.length - 20} more` : ''}`,
    })
  const { before, after } = accountScript(kept, read.loadedPlugins)
  const secretFds = [new Secret(before), new Secret(after)]
  return [{ program: 'cat', args: ['--', '/dev/fd/3', '-', '/dev/fd/4'], secretFds }]
}

/** A client that loads the dump would end with a privilege on a table that is not there: servers keep those of dropped ones. */
function withinDump(accounts: readonly Account[], { before, server, scope }: Held) {
  const folded = (text: string): string => (server.facts.foldsCase ? text.toLowerCase() : text)
  const there = new Set([
    ...before.tables.map(({ database, name }) => folded(`table ${before.names(database, name)}`)),
    // Names of routines have no case.
    ...[...before.definitions.keys()].map(each => each.toLowerCase()),
  ])
  const left = new Set<string>()
  const isThere = (grant: string): boolean => {
    const object = objectOf(grant)
    if (!object || systemDatabases.includes(object.database)) return true
    const { kind, database, name } = object
    const shown = `${kind} ${before.names(database, name)}`
    const found = scope.databases.some(each => folded(each) === folded(database))
    if (found && there.has(kind === 'table' ? folded(shown) : shown.toLowerCase())) return true
    left.add(`${database}.${name}`)
    return false
  }
  return { kept: accounts.map(each => ({ ...each, grants: each.grants.filter(isThere) })), left: [...left] }
}

function partsOnly(partial: readonly string[]): Warning[] {
  if (partial.length === 0) return []
  return [{ what: `something is left out of the dump by args or option files: ${partial.join(', ')}` }]
}

/** A census of counts reads every row anyway. */
function looksAtRows({ census, partial }: Pick<Held, 'census' | 'partial'>): boolean {
  return census === 'counts' && partial.length === 0
}

/** Where it cannot be taken the backup stands without one, with a warning. Of a part there is none: it would promise too much. */
async function census(held: Held, ctx: Context): Promise<Census> {
  if (held.partial.length > 0) return { level: 'none', at: 'near', objects: [], unseen: [] }
  try {
    const taken = await takeCensus(held.server, held.before, held.census, ctx)
    if (looksAtRows(held)) held.warnings.push(...(await roundedFloats(held.server, held.before, ctx)))
    return taken
  } catch (error) {
    ctx.signal.throwIfAborted()
    held.warnings.push({ what: `there is no census: ${(error as Error).message}` })
    return { level: 'none', at: 'near', objects: [], unseen: [] }
  }
}

/**
 * The last word. A table that was altered while it was dumped may stand in the dump with its old columns and its new rows,
 * which nobody could restore: that throws a Failure.
 */
async function finish(held: Held, ctx: Context): Promise<SourceFacts> {
  const { server, before, clients } = held
  const after = await takeInventory(server, held.scope.databases, ctx)
  const { altered, warnings } = changes(before, after)
  if (altered.length > 0)
    throw new Failure({
      what: `the dump of ${showConnection(server.connection, held.unit)} cannot be trusted`,
      why: `while it ran, these tables were altered: ${altered.slice(0, 10).join(', ')}`,
      remedy: 'run again when no migration runs',
    })
  const capturedAt = held.dumpedAt ?? ctx.clock.now()
  const loose = before.tables.some(table => table.kind === 'table' && !table.transactional)
  const [database = ''] = held.scope.databases
  return {
    kind: 'logical',
    capturedAt,
    consistentAt: loose ? ctx.clock.now() : capturedAt,
    client: clients.version,
    options: {
      server: `${flavourNames[clients.flavour]} ${server.facts.series.join('.')}`,
      scope: held.scope.named ? 'whole' : 'database',
      ...(held.scope.named
        ? { databases: listable(held.scope.databases) }
        : server.facts.databases.get(database)),
      maxAllowedPacket: server.facts.maxAllowedPacket,
      globals: held.globals,
    },
    warnings: [...held.warnings, ...warnings],
  }
}

/** A manifest is small: of more databases than fit, a restore of all names them by --only. */
function listable(databases: readonly string[]): readonly string[] | undefined {
  return Buffer.byteLength(JSON.stringify(databases)) > 16_384 ? undefined : databases
}
