import type { Context } from '../../model/context.ts'
import { asFailure, usage } from '../../model/failure.ts'
import type { ArtifactReader, RestorePlan, RestoreReport, Restorer } from '../../model/restore.ts'
import { bring } from './bring.ts'
import { takeCensus } from './census.ts'
import { type Flavour, showConnection } from './connection.ts'
import { takeInventory } from './inventory.ts'
import { type Prepared, prepare, type RestorerOptions } from './prepare.ts'
import { accountsOf, NewAccounts } from './restore-accounts.ts'
import { showName } from './sql.ts'

/**
 * Brings databases back. MariaDB and MySQL commit every definition by itself, so the tables are loaded into a scratch database
 * beside the target, and moved in by one RENAME TABLE when everything was read whole and right; views, triggers, routines and
 * events are made then. What goes wrong before that leaves the target untouched; what goes wrong after is undone: what was
 * replaced lies in another database until the restore stands. Killed in between, it stays there, under its telling name.
 */
export function restorerOf(flavour: Flavour, options: RestorerOptions): Pick<Restorer, 'plan' | 'apply'> {
  return {
    async plan(chain, pick, ctx, read) {
      return planOf(await prepare(flavour, options, chain, pick, ctx, read))
    },
    async apply(chain, pick, replace, read, ctx) {
      return await apply(await prepare(flavour, options, chain, pick, ctx, read), replace, read, ctx)
    },
  }
}

function planOf(p: Prepared): RestorePlan {
  const { server, goals, data, accounts, hasInside, clients, wanted } = p
  const steps: string[] = []
  const replaces = goals.flatMap(goal => goal.replaces)
  if (data) {
    steps.push(
      `loads ${data.name} with ${clients.version.replace(/-dump|dump/, '')}, into ${goals.map(goal => showName(goal.scratch)).join(', ')}`,
    )
    for (const goal of goals) {
      if (goal.state === 'absent') steps.push(`creates the database ${showName(goal.target)}`)
      if (goal.replaces.length > 0)
        steps.push(
          goal.tables
            ? `replaces the tables of ${showName(goal.target)} that were named`
            : `drops all that is in ${showName(goal.target)}, also what the backup does not hold`,
        )
    }
    steps.push(
      `when all of it was read right, moves the tables in at once, then makes ${wanted && [...wanted.values()].every(Boolean) ? 'their triggers' : 'views, triggers, routines and events'}`,
    )
    if (replaces.length > 0)
      steps.push(
        'this last part is not atomic: if it is killed, what was there is in a database named ..._cairn_before_...',
      )
    steps.push('counts the rows')
  }
  if (accounts || hasInside || p.own !== null)
    steps.push('creates the accounts that are missing, with their privileges; existing ones stay as they are')
  return {
    target: showConnection(server.connection, goals.length === 1 ? goals[0]?.target : undefined),
    steps,
    replaces,
    warnings: p.warnings,
  }
}

async function apply(
  p: Prepared,
  replace: boolean,
  read: ArtifactReader,
  ctx: Context,
): Promise<RestoreReport> {
  const { server, goals } = p
  const target = planOf(p).target
  const used = goals.find(goal => goal.replaces.length > 0)
  if (used && !replace)
    throw usage(
      `cannot restore into ${target}`,
      'it is not empty',
      'restore into a new database, or give consent',
    )
  const accounts = p.accounts ? await accountsOf(p.accounts, read) : []
  const warnings = [...p.warnings]
  if (!p.data) {
    const made = await NewAccounts.among(accounts, server, ctx)
    await made.make(ctx)
    await made.finish(ctx)
    return { target, objects: null, rows: null, warnings: [...warnings, ...made.warnings] }
  }
  warnings.push(...(await bring({ ...p, data: p.data }, accounts, read, ctx)))
  return { target, ...(await counted(p, warnings, ctx)), warnings }
}

/** The restore stands, whatever becomes of the counting. */
async function counted({ server, goals }: Prepared, warnings: string[], ctx: Context) {
  try {
    const inventory = await takeInventory(
      server,
      goals.map(goal => goal.target),
      ctx,
    )
    const { objects } = await takeCensus(server, inventory, 'counts', ctx)
    return { objects: objects.length, rows: objects.reduce((sum, { rows }) => sum + (rows ?? 0), 0) }
  } catch (error) {
    ctx.signal.throwIfAborted()
    warnings.push(`the rows were not counted: ${asFailure(error, '').why}`)
    return { objects: null, rows: null }
  }
}
