import { randomBytes } from 'node:crypto'
import type pg from 'pg'
import { usage } from '../../model/failure.ts'
import { type Connection, showConnection } from './connection.ts'
import { codeOf } from './explain.ts'

/** A setting of nobody: what stands in it does no harm to whoever gets it. */
const mark = 'cairn.connection'

/**
 * Throws a usage Failure when what we set for our session would be set for others: a pooler lies between, and lends its
 * connections to the server for one transaction each (pgbouncer's `pool_mode = transaction`). The snapshot would go to others, too.
 * Nothing is guessed: one connection marks its session, and either no longer sees the mark, or `another` sees it. A pool that
 * has no connection left for the other proves nothing.
 */
export async function mustBeAlone(
  client: pg.Client,
  connection: Connection,
  another: () => Promise<pg.Client>,
): Promise<void> {
  const ours = randomBytes(8).toString('hex')
  await client.query(`SELECT pg_catalog.set_config('${mark}', '${ours}', false)`)
  const isShared = (await marked(client)) !== ours || (await alsoMarked(another, ours))
  if (!isShared) return
  throw usage(
    `cannot use ${showConnection(connection)}`,
    'a pooler lies between that gives its connections to others after each transaction: they would get our settings, and the snapshot would be lost',
    'connect to the server itself, or through a pool in session mode',
  )
}

async function alsoMarked(another: () => Promise<pg.Client>, ours: string): Promise<boolean> {
  try {
    return (await marked(await another())) === ours
  } catch {
    return false
  }
}

/** Null where it is not set, which is an error to the server; only from 9.6 on can that be asked otherwise. */
async function marked(client: pg.Client): Promise<string | null> {
  try {
    const { rows } = await client.query<{ value: string }>(
      `SELECT pg_catalog.current_setting('${mark}') AS value`,
    )
    return rows[0]?.value ?? null
  } catch (error) {
    if (codeOf(error) === '42704') return null
    throw error
  }
}
