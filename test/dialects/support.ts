import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import type { TestContext } from 'node:test'
import { type FreshDatabase, freshDatabase, orSkip } from '../services/index.ts'
import { type Machine, machine, type Ran } from '../support/cli.ts'
import { sql } from '../support/postgres/hostile.ts'

/** A host that knows nothing but the environment of a tool that Cairn replaces. */
export interface OldHost extends Machine {
  /** Runs Cairn in that environment; with these variables changed, or with undefined taken away. */
  cairn(args: readonly string[], changes?: Readonly<Record<string, string | undefined>>): Promise<Ran>
}

export function oldHost(env: Readonly<Record<string, string>>): OldHost {
  const host = machine()
  return { ...host, cairn: (args, changes = {}) => host.run(args, { env: { ...env, ...changes } }) }
}

/** Runs a line of shell, as an old tool or its README has it, on bytes; returns its output. */
export function sh(line: string, input?: Uint8Array, env: Readonly<Record<string, string>> = {}): Buffer {
  return execFileSync('bash', ['-o', 'pipefail', '-ec', line], {
    ...(input ? { input } : {}),
    cwd: tmpdir(),
    env: { ...process.env, ...env },
    maxBuffer: 64 * 1024 * 1024,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
}

/** Rows with whatever has been lost by a dump before. */
export async function fillShop(database: FreshDatabase): Promise<void> {
  await sql(
    database,
    `CREATE TABLE item (id int PRIMARY KEY, name text, body bytea, twice int GENERATED ALWAYS AS (id * 2) STORED)`,
    `INSERT INTO item SELECT n, E'q''uo"te\\n\\\\ ' || n, decode(md5(n::text) || '00ff0a', 'hex') FROM generate_series(1, 500) n`,
    `CREATE TABLE "em pty" (x int)`,
  )
}

/** Everything in the tables of fillShop, as one digest. */
export async function shopDigest(database: FreshDatabase): Promise<string> {
  const [row] = await sql<{ digest: string }>(
    database,
    `SELECT md5(string_agg(i::text, ';' ORDER BY id)) || (SELECT count(*) FROM "em pty") AS digest FROM item i`,
  )
  assert.ok(row)
  return row.digest
}

/** The environment of one database, as the README of the rclone images has it. */
export async function shop(
  t: TestContext,
): Promise<{ database: FreshDatabase; env: Record<string, string> } | null> {
  const database = await orSkip(t, freshDatabase(15))
  if (!database) return null
  await fillShop(database)
  const { name, host, port, user, password } = database
  const env = {
    PGHOST: host,
    PGPORT: String(port),
    PGUSER: user,
    PGPASSWORD: password,
    BACKUP_DATABASES: name,
  }
  return { database, env }
}

/** Backs up, lists and restores through the remote. */
export async function roundTrip(host: OldHost, database: FreshDatabase): Promise<void> {
  const ran = await host.cairn(['run'])
  assert.equal(ran.code, 0, ran.stderr)
  const listed = (await host.cairn(['list', '--json'])).json<{ id: string; kind: string }[]>()
  assert.deepEqual(
    listed.map(({ kind }) => kind),
    ['logical'],
  )
  const target = await freshDatabase(15)
  const restored = await host.cairn(['restore', 'latest', '--to', target.url])
  assert.equal(restored.code, 0, restored.stderr)
  assert.equal(await shopDigest(target), await shopDigest(database))
}
