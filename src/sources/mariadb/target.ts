import { randomBytes } from 'node:crypto'
import type { Context } from '../../model/context.ts'
import { Failure, usage } from '../../model/failure.ts'
import { cleanupContext } from '../../platform/run-context.ts'
import { ask, type Row } from './ask.ts'
import { showConnection } from './connection.ts'
import { numberOf } from './explain.ts'
import type { Reached } from './server.ts'
import { isOneOf, quoteName, quoteTable, quoteText, showName } from './sql.ts'

/** How long putting things back may take. */
const cleanupMs = 60_000
const longestName = 64
/** ER_DB_CREATE_EXISTS */
const databaseExists = 1007

/** What a restore replaces in one database. */
export interface Goal {
  /** The database's name in the backup. */
  readonly from: string
  readonly target: string
  readonly scratch: string
  /** Where what is replaced lies until the restore stands. */
  readonly aside: string
  /** Undefined: the whole database. */
  readonly tables: ReadonlySet<string> | undefined
  readonly state: 'absent' | 'empty' | 'used'
  /** What is there and would be replaced: `table orders`. */
  readonly replaces: readonly string[]
  /** What the target was made with; '' where it is not there. */
  readonly charset: string
}

/** `shop_cairn_restore_3f9c01`, within a name's 64 characters. */
function beside(name: string, what: string, mark: string): string {
  const end = `_cairn_${what}_${mark}`
  return `${[...name].slice(0, longestName - end.length).join('')}${end}`
}

/** A name for a database that a restore needs for a while. */
export function besides(name: string): string {
  return beside(name, 'restore', randomBytes(3).toString('hex'))
}

/** A warning for each kind of database that restores which were killed have left beside a target. One that runs now has the same. */
export function leftBeside(server: Reached, target: string): string[] {
  const left = (what: string): string[] => {
    const [start = ''] = beside(target, what, '??????').split(/\?{6}$/)
    const names = [...server.facts.databases.keys()]
    return names.filter(name => name.startsWith(start) && /^[0-9a-f]{6}$/.test(name.slice(start.length)))
  }
  const [loads, asides] = ['restore', 'before'].map(left)
  return [
    ...(asides?.length
      ? [
          `${asides.map(showName).join(', ')} holds what a restore that was killed had taken out of ${showName(target)}: look there for what is missing, then drop it`,
        ]
      : []),
    ...(loads?.length
      ? [
          `${loads.map(showName).join(', ')} was left by a restore that was killed: where none runs now, drop it`,
        ]
      : []),
  ]
}

/** Looks at one target; changes nothing. Throws a Failure where it could not be replaced whole. */
export async function survey(
  server: Reached,
  from: string,
  asked: string,
  tables: ReadonlySet<string> | undefined,
  ctx: Context,
): Promise<Goal> {
  const target = nameAt(server, asked)
  const what = `cannot restore into ${showConnection(server.connection, target)}`
  if ([...target].length > longestName)
    throw usage(what, `the name of the database is longer than ${longestName} characters`, 'shorten it')
  const mark = randomBytes(3).toString('hex')
  const goal = {
    ...{ from, target, tables },
    scratch: beside(target, 'restore', mark),
    aside: beside(target, 'before', mark),
  }
  const facts = server.facts.databases.get(target)
  if (!facts || !tables) await demandNoTwin(server, target, ctx)
  if (!facts) return { ...goal, state: 'absent', replaces: [], charset: '' }
  const objects = await objectsIn(server, target, ctx)
  const touched = tables ? objects.filter(({ kind, name }) => isTable(kind) && tables.has(name)) : objects
  if (tables) {
    const view = objects.find(({ kind, name }) => kind === 'view' && tables.has(name))
    if (view) throw usage(what, `${showName(view.name)} is a view there`, 'drop it first')
  }
  if (touched.length > 0) {
    await demandUnreferenced(server, goal, touched, ctx)
    await demandDefiner(server, target, ctx)
  }
  return {
    ...goal,
    state: objects.length === 0 ? 'empty' : 'used',
    replaces: touched.map(({ kind, name }) => `${kind} ${showName(target)}.${showName(name)}`),
    charset: ` CHARACTER SET ${facts.charset} COLLATE ${facts.collation}`,
  }
}

/** A database as this server calls it. Taken for another, one that is there would seem absent. */
function nameAt({ facts }: Reached, asked: string): string {
  if (!facts.foldsCase) return asked
  const folded = asked.toLowerCase()
  return [...facts.databases.keys()].find(name => name.toLowerCase() === folded) ?? folded
}

/** MariaDB drops the events of `App` with the database `app` (seen with 10.11 and 11.8), which a restore may have to drop. */
async function demandNoTwin(server: Reached, target: string, ctx: Context): Promise<void> {
  const [[twin] = []] = await ask(
    server,
    [
      `SELECT EVENT_SCHEMA FROM information_schema.EVENTS WHERE EVENT_SCHEMA = ${quoteText(target)} AND NOT ${isOneOf('EVENT_SCHEMA', [target])} LIMIT 1`,
    ],
    ctx,
  )
  if (twin?.[0] === undefined) return
  throw usage(
    `cannot restore into ${showConnection(server.connection, target)}`,
    `${showName(twin[0])} is there too, and the server would drop its events with ${showName(target)}`,
    'restore under a name that differs by more than case and accents (--to)',
  )
}

interface Thing {
  readonly kind: string
  readonly name: string
}

async function objectsIn(server: Reached, database: string, ctx: Context): Promise<Thing[]> {
  const among = (column: string): string => isOneOf(column, [database])
  const [rows = []] = await ask(
    server,
    [
      `SELECT CASE TABLE_TYPE WHEN 'VIEW' THEN 'view' WHEN 'SEQUENCE' THEN 'sequence' ELSE 'table' END, TABLE_NAME
         FROM information_schema.TABLES WHERE ${among('TABLE_SCHEMA')}
       UNION ALL SELECT LOWER(ROUTINE_TYPE), ROUTINE_NAME FROM information_schema.ROUTINES WHERE ${among('ROUTINE_SCHEMA')}
       UNION ALL SELECT 'event', EVENT_NAME FROM information_schema.EVENTS WHERE ${among('EVENT_SCHEMA')}`,
    ],
    ctx,
  )
  return rows.map(([kind = '', name = '']) => ({ kind, name }))
}

function isTable(kind: string): boolean {
  return kind === 'table' || kind === 'sequence'
}

/** Who may make definitions in the name of others (MariaDB; MySQL up to 8.1; later). */
const definerPrivileges = /\b(ALL PRIVILEGES|SUPER|SET USER|SET_USER_ID|SET_ANY_DEFINER)\b.* ON \*\.\*/

/** Definitions of others could not be put back by somebody who may not speak for them. */
async function demandDefiner(server: Reached, target: string, ctx: Context): Promise<void> {
  if (server.facts.grants.some(grant => definerPrivileges.test(grant))) return
  const of = (table: string, schema: string): string =>
    `SELECT DEFINER FROM information_schema.${table} WHERE ${isOneOf(schema, [target])}`
  const [rows = []] = await ask(
    server,
    [
      `SELECT DEFINER FROM (${of('VIEWS', 'TABLE_SCHEMA')} UNION ${of('ROUTINES', 'ROUTINE_SCHEMA')}
         UNION ${of('EVENTS', 'EVENT_SCHEMA')} UNION ${of('TRIGGERS', 'TRIGGER_SCHEMA')}) d WHERE DEFINER <> CURRENT_USER()`,
    ],
    ctx,
  )
  if (rows.length === 0) return
  throw usage(
    `cannot restore into ${showConnection(server.connection, target)}`,
    `definitions there are of ${rows.map(([definer]) => definer).join(', ')}, and this user may not make them again if that is needed`,
    'GRANT SET USER (MariaDB) or SET_ANY_DEFINER (MySQL), use an administrator, or restore into another database',
  )
}

/** A table that others refer to takes their foreign keys with it when it is moved aside. */
async function demandUnreferenced(
  server: Reached,
  { target, tables }: Pick<Goal, 'target' | 'tables'>,
  touched: readonly Thing[],
  ctx: Context,
): Promise<void> {
  const within = isOneOf('TABLE_SCHEMA', [target])
  const [rows = []] = await ask(
    server,
    [
      `SELECT DISTINCT TABLE_SCHEMA, TABLE_NAME, REFERENCED_TABLE_NAME FROM information_schema.KEY_COLUMN_USAGE
        WHERE ${isOneOf('REFERENCED_TABLE_SCHEMA', [target])}${tables ? '' : ` AND NOT ${within}`}`,
    ],
    ctx,
  )
  const names = new Set(touched.map(({ name }) => name))
  const found = rows.find(
    ([schemaOf = '', table = '', to = '']: Row) =>
      names.has(to) && !(schemaOf === target && (!tables || tables.has(table))),
  )
  if (!found) return
  const [schemaOf = '', table = '', to = ''] = found
  throw usage(
    `cannot restore into ${showConnection(server.connection, target)}`,
    `${showName(schemaOf)}.${showName(table)} has a foreign key to ${showName(to)}, which would be replaced without it`,
    'restore into another database (--to), and copy the rows from there; or name both tables',
  )
}

/**
 * Puts what was loaded into its place. For a whole database that is used: its tables are moved aside, it is made anew, the
 * loaded tables are moved in, all of them in one RENAME TABLE. The server commits each of these by itself; `putBack` undoes them, and
 * takes the databases of `made` for ours.
 */
export async function moveIn(
  server: Reached,
  goals: readonly Goal[],
  loaded: ReadonlyMap<string, ReadonlySet<string>>,
  charset: (goal: Goal) => string,
  made: Set<Goal>,
  ctx: Context,
): Promise<void> {
  const moves: string[] = []
  const statements: string[] = ['SET SESSION foreign_key_checks = 0']
  for (const goal of goals) {
    const olds = goal.state === 'used' ? await objectsIn(server, goal.target, ctx) : []
    const tables = olds.filter(({ kind, name }) => isTable(kind) && (!goal.tables || goal.tables.has(name)))
    if (tables.length > 0) {
      statements.push(`CREATE DATABASE ${quoteName(goal.aside)}${goal.charset}`)
      statements.push(...(await triggerDrops(server, goal.target, goal.tables, ctx)))
    }
    const aside = tables.map(
      ({ name }) => `${quoteTable(goal.target, name)} TO ${quoteTable(goal.aside, name)}`,
    )
    const anew = goal.state === 'used' && !goal.tables
    if (anew) {
      if (aside.length > 0) statements.push(`RENAME TABLE ${aside.join(', ')}`)
      statements.push(`DROP DATABASE ${quoteName(goal.target)}`)
    } else moves.push(...aside)
    const create = `CREATE DATABASE ${quoteName(goal.target)}${charset(goal)}`
    if (anew) statements.push(create)
    else if (goal.state === 'absent') await makeOurs(server, goal, create, made, ctx)
    for (const name of loaded.get(goal.from) ?? [])
      moves.push(`${quoteTable(goal.scratch, name)} TO ${quoteTable(goal.target, name)}`)
  }
  if (moves.length > 0) statements.push(`RENAME TABLE ${moves.join(', ')}`)
  await ask(server, statements, ctx)
}

/** Somebody may have made it since it was looked for: only what is in `made` may ever be dropped again. */
async function makeOurs(
  server: Reached,
  goal: Goal,
  create: string,
  made: Set<Goal>,
  ctx: Context,
): Promise<void> {
  made.add(goal)
  try {
    await ask(server, [create], ctx)
  } catch (error) {
    if (numberOf(error) === databaseExists) made.delete(goal)
    throw error
  }
}

/** A table with triggers cannot move to another database. */
async function triggerDrops(
  server: Reached,
  database: string,
  tables: ReadonlySet<string> | undefined,
  ctx: Context,
): Promise<string[]> {
  const [rows = []] = await ask(
    server,
    [
      `SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS WHERE ${isOneOf('TRIGGER_SCHEMA', [database])}`,
    ],
    ctx,
  )
  return rows
    .filter(([, table = '']) => !tables || tables.has(table))
    .map(([name = '']) => `DROP TRIGGER ${quoteTable(database, name)}`)
}

/**
 * After a failure: what was there before is there again, but for its definitions, which `redefine` makes. Also when we were
 * told to stop.
 */
export async function putBack(
  server: Reached,
  goals: readonly Goal[],
  loaded: ReadonlyMap<string, ReadonlySet<string>>,
  redefine: { readonly script: string; run(ctx: Context): Promise<void> } | null,
  made: ReadonlySet<Goal>,
  outer: Context,
): Promise<void> {
  const ctx = cleanupContext(outer, cleanupMs)
  try {
    let isChanged = false
    for (const goal of goals) {
      if (goal.state === 'absent' && !made.has(goal)) continue
      if (!(await isTouched(server, goal, ctx))) continue
      isChanged = true
      await putBackOne(server, goal, (loaded.get(goal.from)?.size ?? 0) > 0, ctx)
    }
    if (isChanged) await redefine?.run(ctx)
  } catch (error) {
    throw new Failure({
      what: 'what was there before could not be put back',
      why: (error as Error).message,
      remedy: `its tables are in ${goals.map(({ aside }) => showName(aside)).join(', ')}, or in their place already: move them back with RENAME TABLE; its views, triggers, routines and events are in ${redefine?.script}`,
      cause: error,
    })
  }
}

/** Where tables are replaced, making the database that they are kept in is the first step. */
async function isTouched(server: Reached, goal: Goal, ctx: Context): Promise<boolean> {
  if (!goal.replaces.some(each => /^(table|sequence) /.test(each))) return true
  const [rows = []] = await ask(
    server,
    [`SELECT 1 FROM information_schema.SCHEMATA WHERE ${isOneOf('SCHEMA_NAME', [goal.aside])}`],
    ctx,
  )
  return rows.length > 0
}

/**
 * How far the moving came is seen, not remembered: a database is only dropped when it holds no table, or those that we moved in,
 * of which the scratch database is empty then.
 */
async function putBackOne(server: Reached, goal: Goal, hasLoaded: boolean, ctx: Context): Promise<void> {
  const olds = await tablesIn(server, goal.aside, ctx)
  const hasMoved = hasLoaded && (await tablesIn(server, goal.scratch, ctx)).length === 0
  const statements = ['SET SESSION foreign_key_checks = 0']
  if (goal.tables && goal.state !== 'absent') {
    const drops = hasMoved ? await triggerDrops(server, goal.target, goal.tables, ctx) : []
    const made = [...goal.tables].map(name => quoteTable(goal.target, name))
    if (hasMoved) statements.push(...drops, `DROP TABLE IF EXISTS ${made.join(', ')}`)
  } else if (hasMoved || (await tablesIn(server, goal.target, ctx)).length === 0) {
    statements.push(`DROP DATABASE IF EXISTS ${quoteName(goal.target)}`)
    if (goal.state !== 'absent') statements.push(`CREATE DATABASE ${quoteName(goal.target)}${goal.charset}`)
  }
  if (olds.length > 0) {
    const moves = olds.map(name => `${quoteTable(goal.aside, name)} TO ${quoteTable(goal.target, name)}`)
    statements.push(`RENAME TABLE ${moves.join(', ')}`)
  }
  await ask(server, statements, ctx)
}

async function tablesIn(server: Reached, database: string, ctx: Context): Promise<string[]> {
  return (await objectsIn(server, database, ctx)).filter(({ kind }) => isTable(kind)).map(({ name }) => name)
}

/** Drops what only the restore needed, also when we were told to stop. */
export async function clearAway(server: Reached, names: readonly string[], outer: Context): Promise<void> {
  const drops = names.map(name => `DROP DATABASE IF EXISTS ${quoteName(name)}`)
  await ask(server, ['SET SESSION foreign_key_checks = 0', ...drops], cleanupContext(outer, cleanupMs))
}
