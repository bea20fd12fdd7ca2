import { createReadStream, createWriteStream, type WriteStream } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import type { Context } from '../../model/context.ts'
import { asFailure, usage } from '../../model/failure.ts'
import type { ArtifactRecord } from '../../model/manifest.ts'
import type { ArtifactReader } from '../../model/restore.ts'
import type { Program } from '../../model/step.ts'
import { flow, pour } from '../../platform/flow.ts'
import type { Account } from './accounts.ts'
import { ask, clientProgram } from './ask.ts'
import { showConnection } from './connection.ts'
import { dumpProgram } from './dump.ts'
import { judged } from './explain.ts'
import { loadingSession } from './loading-session.ts'
import { toldByFiles } from './option-files.ts'
import type { Prepared } from './prepare.ts'
import { type Met, nothingMet, type Redirection, type Route, redirect } from './redirect.ts'
import { NewAccounts } from './restore-accounts.ts'
import { type Reached, reach } from './server.ts'
import { copyRoutines, ownRoute } from './server-tables.ts'
import { quoteName, showName } from './sql.ts'
import { clearAway, type Goal, moveIn, putBack, survey } from './target.ts'

/**
 * Loads, moves in, makes the accounts (these, and those that stand in the dump), defines. Returns warnings; whatever it throws,
 * the target is as it was.
 */
export async function bring(
  p: Prepared & { readonly data: ArtifactRecord },
  given: readonly Account[],
  read: ArtifactReader,
  ctx: Context,
): Promise<string[]> {
  const { server, goals } = p
  const folder = await mkdtemp(join(ctx.spool, 'definitions-'))
  const met = nothingMet()
  /** What is in the database aside, and in the folder, is all there is left when putting it back failed. */
  let isLost = false
  try {
    const late = join(folder, 'new.sql')
    await load(p, met, late, read, ctx)
    demandFound(p, met)
    await recheck(p, ctx)
    const before = await saveDefinitions(p, folder, ctx)
    const inside = p.hasInside ? met.accounts.all : []
    const accounts = await NewAccounts.among([...given, ...inside], server, ctx)
    const tables = new Map([...met.databases].map(([name, { tables: loaded }]) => [name, loaded]))
    const made = new Set<Goal>()
    const copied: string[] = []
    try {
      await moveIn(server, goals, tables, goal => charsetOf(p, goal, met), made, ctx)
      await accounts.make(ctx)
      const ownTables = met.databases.get('mysql')?.tables
      if (p.own !== null && ownTables) {
        await accounts.copy(p.own, ownTables, ctx)
        if (ownTables.has('proc')) copied.push(...(await copyRoutines(server, p.own, goals, ctx)))
      }
      await define(p, late, p.manifest.source.version, ctx)
    } catch (error) {
      // An account that was refused may be whose definition failed.
      for (const what of accounts.warnings) ctx.emit({ type: 'warning', what, why: '', remedy: '' })
      await accounts.undo(ctx)
      const redefine =
        before === null
          ? null
          : { script: before, run: (inner: Context) => define(p, before, server.facts.version, inner) }
      isLost = true
      await putBack(server, goals, tables, redefine, made, ctx)
      isLost = false
      throw error
    }
    await accounts.finish(ctx)
    const naming = [...met.naming].join(', ')
    return [
      ...accounts.warnings,
      ...copied,
      ...(naming === ''
        ? []
        : [`${naming}: names the database ${p.manifest.unit} itself, and was left as it is`]),
    ]
  } finally {
    if (!isLost) await rm(folder, { recursive: true, force: true })
    await clearAway(
      server,
      [
        ...goals.flatMap(goal => (isLost ? [goal.scratch] : [goal.scratch, goal.aside])),
        ...(p.own === null ? [] : [p.own]),
      ],
      ctx,
    ).catch(error => {
      const { why } = asFailure(error, '')
      const names = goals.map(goal => goal.scratch).join(', ')
      ctx.emit({ type: 'warning', what: `cannot drop ${names}`, why, remedy: 'drop it by hand' })
    })
  }
}

async function load(
  p: Prepared & { readonly data: ArtifactRecord },
  met: Met,
  late: string,
  read: ArtifactReader,
  ctx: Context,
): Promise<void> {
  const { server, goals, isWhole, manifest, data } = p
  const [first] = goals
  if (!first) throw usage('cannot restore', 'the backup names no database', 'name them with --only')
  if (!isWhole)
    await ask(server, [`CREATE DATABASE ${quoteName(first.scratch)}${charsetOf(p, first, met)}`], ctx)
  const file = spoolFile(late)
  const filter = redirect(redirection(p, file), met)
  await read.into(
    data,
    loader(p, isWhole ? '' : first.scratch),
    { prologue: prologue(server, manifest.source.version) },
    [filter],
  )
  await finished(file.end())
}

/** Its errors show where it is waited for. */
function spoolFile(path: string): WriteStream {
  return createWriteStream(path, { mode: 0o600, flags: 'wx' }).on('error', () => {})
}

function redirection({ goals, manifest, isWhole, own }: Prepared, late: Redirection['late']): Redirection {
  const routes = new Map<string, Route>(goals.map(goal => [goal.from, goal]))
  if (own !== null) routes.set('mysql', ownRoute(own))
  const unit = isWhole ? '' : manifest.unit
  return { unit, route: name => routes.get(name), late, makesDatabases: isWhole }
}

/** The server's client, which reads statements; it ends with the first that fails. */
function loader({ server, clients }: Prepared, database: string): Program {
  const more = ['--max-allowed-packet=1G', ...(database === '' ? [] : [`--database=${database}`])]
  return {
    ...clientProgram({ ...server, clients }, more),
    judge: judged(clients.flavour),
  }
}

async function* prologue(server: Reached, source: string) {
  yield Buffer.from(loadingSession(server, source))
}

/** Every database and table that was asked for must have been there. */
function demandFound({ wanted, goals, isWhole, manifest: { id } }: Prepared, met: Met): void {
  for (const { from, tables } of goals) {
    const found = met.databases.get(from)
    const missing = !found ? [from] : [...(tables ?? [])].filter(name => !found.tables.has(name))
    const [name] = missing
    if (name === undefined) continue
    const isView = met.views.get(from)?.has(name) === true
    throw usage(
      `cannot restore only ${showName(name)}`,
      isView
        ? 'it is a view'
        : isWhole && !found
          ? 'the backup has no such database'
          : 'the backup has no such table',
      isView || wanted === null
        ? 'restore the whole database'
        : `cairn cat ${id} census.json lists what it has`,
    )
  }
}

/** What the plan found may be otherwise by now. */
async function recheck({ server, goals, folder }: Prepared, ctx: Context): Promise<void> {
  const now = await reach(server.connection, folder, ctx)
  for (const goal of goals) {
    const { state, replaces } = await survey(now, goal.from, goal.target, goal.tables, ctx)
    if (state === goal.state && replaces.join() === goal.replaces.join()) continue
    throw usage(
      `cannot restore into ${showConnection(server.connection, goal.target)}`,
      'it was changed while the backup was read',
      'run the restore again',
    )
  }
}

/** The views, triggers, routines and events that are replaced, as a script; null where there are none. */
async function saveDefinitions(
  { server, goals, clients }: Prepared,
  folder: string,
  ctx: Context,
): Promise<string | null> {
  const used = goals.filter(goal => goal.replaces.length > 0)
  if (used.length === 0) return null
  // What is saved wrong here could not be put back.
  await toldByFiles(server.connection, clients, ctx)
  const path = join(folder, 'old.sql')
  const file = spoolFile(path)
  for (const goal of used) {
    const scope = { databases: [goal.target], named: false }
    const dumper = dumpProgram(server.connection, clients, server.facts.series, scope, [
      '--no-data',
      '--add-drop-trigger',
    ])
    const route = { scratch: goal.target, target: goal.target, tables: goal.tables }
    const filter = redirect(
      { unit: goal.target, route: () => route, late: file, makesDatabases: false },
      nothingMet(),
    )
    for await (const _ of flow(dumper, [filter], ctx));
  }
  await finished(file.end())
  return path
}

/** `source`: the version of the server that the definitions are of. */
async function define(p: Prepared, script: string, source: string, ctx: Context): Promise<void> {
  const { judge: _judge, ...program } = loader(p, '')
  await pour(
    createReadStream(script),
    [],
    { ...program, judge: judged(`${p.clients.flavour}, which made the definitions,`) },
    ctx,
    {
      prologue: prologue(p.server, source),
    },
  )
}

/** How a database is made: as the backup's was. */
function charsetOf({ manifest, isWhole }: Prepared, goal: Goal, met: Met): string {
  if (goal.tables && goal.charset !== '') return goal.charset
  if (isWhole) return (met.databases.get(goal.from)?.create ?? '').replace(/;\s*$/, '')
  const { charset, collation } = manifest.source.options
  const isName = (value: unknown): value is string => typeof value === 'string' && /^\w+$/.test(value)
  return isName(charset) && isName(collation) ? ` CHARACTER SET ${charset} COLLATE ${collation}` : ''
}
