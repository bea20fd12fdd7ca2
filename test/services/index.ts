// What tests use: real services, started when first asked for and shared by the whole run.
//
//   const database = await orSkip(t, freshDatabase(16))
//   if (!database) return
//
// Under test/run.ts the services belong to the run. In a test file run by hand they belong to the file's process, and
// end with it; that takes some seconds for each file, and `node test/services/install.ts` must have been run before.

import { randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { connectBroker } from './broker.ts'
import {
  type AzuriteFacts,
  type Facts,
  type MariadbFacts,
  type PostgresFacts,
  type S3Facts,
  type ServiceName,
  ServiceUnavailable,
} from './facts.ts'
import { type MariadbSeries, mariadbClients, mysqlClients, type PostgresMajor } from './places.ts'
import { createRegistry, type Registry } from './registry.ts'

export {
  fullerRclone,
  goPrograms,
  mariadbClients,
  mysqlClients,
  newerRclone,
  type PostgresMajor,
  postgresClients,
  postgresMajors,
} from './places.ts'

/** Rejects with `ServiceUnavailable` if this machine cannot have it, else only if it does not start. */
export async function service<N extends ServiceName>(
  name: N,
  ...variant: N extends 'postgres' ? [PostgresMajor] : N extends 'mariadb' ? [number] : []
): Promise<Facts[N]> {
  return (await common().get(name, ...variant)) as Facts[N]
}

function common(): Registry {
  registry ??= process.env.CAIRN_TEST_BROKER ? connectBroker(process.env.CAIRN_TEST_BROKER) : ownRegistry()
  return registry
}

let registry: Registry | undefined

/** A server that no other test touches, for what concerns all of its databases; it ends with this process. */
export async function freshServer(major: PostgresMajor): Promise<Facts['postgres']> {
  return (await ownRegistry().get('postgres', major)) as Facts['postgres']
}

/** A MariaDB server of its series, or a MySQL server. */
export type SqlServer = MariadbSeries | 'mysql'

export const sqlServers = ['10.11', '11.8', 'mysql'] as const satisfies readonly SqlServer[]

/** A server that no other test touches, for what concerns all of its databases and accounts; it ends with this process. */
export async function freshSqlServer(which: SqlServer): Promise<MariadbFacts> {
  return await sqlServer(which, ownRegistry())
}

async function sqlServer(which: SqlServer, from: Registry = common()): Promise<MariadbFacts> {
  const facts = which === 'mysql' ? from.get('mysql') : from.get('mariadb', Number(which))
  return (await facts) as MariadbFacts
}

export interface FreshSqlDatabase extends MariadbFacts {
  name: string
  /** All of it, for those who want one string. Holds the password. */
  url: string
}

/** An empty utf8mb4 database of its own, on a server shared with other tests: accounts are common. */
export async function freshSqlDatabase(which: SqlServer): Promise<FreshSqlDatabase> {
  const facts = await sqlServer(which)
  const name = freshName('db_')
  const { runSql } = await import('./mariadb.ts')
  await runSql(facts, `CREATE DATABASE ${name} CHARACTER SET utf8mb4`)
  const { flavour, user, password, host, port } = facts
  return { ...facts, name, url: `${flavour}://${user}:${password}@${host}:${port}/${name}` }
}

process.env.CAIRN_MARIADB_CLIENTS ??= mariadbClients
process.env.CAIRN_MYSQL_CLIENTS ??= mysqlClients

function ownRegistry(): Registry {
  const dir = mkdtempSync(join(tmpdir(), 'cairn-'))
  chmodSync(dir, 0o755)
  const own = createRegistry(dir)
  process.once('exit', () => {
    own.stop()
    rmSync(dir, { recursive: true, force: true })
  })
  return own
}

/** Skips the test when what was promised cannot be had here: says why, and returns undefined. */
export async function orSkip<T>(t: TestContext, promised: Promise<T>): Promise<T | undefined> {
  try {
    return await promised
  } catch (error) {
    if (!(error instanceof ServiceUnavailable)) throw error
    t.skip(error.message)
    return undefined
  }
}

export interface FreshDatabase extends Pick<PostgresFacts, 'major' | 'host' | 'port' | 'user' | 'password'> {
  name: string
  /** All of it, for those who want one string. Holds the password. */
  url: string
  /** Drops the database and disconnects whoever uses it. Not needed for order: it goes with the run. */
  drop(): Promise<void>
}

/** An empty UTF-8 database of its own, on a server shared with other tests: roles and tablespaces are common. */
export async function freshDatabase(major: PostgresMajor): Promise<FreshDatabase> {
  const { host, port, user, password } = await service('postgres', major)
  const name = freshName('db_')
  await command(major, `create database ${name} template template0`)
  const url = `postgresql://${user}:${password}@${host}:${port}/${name}`
  const drop = () => command(major, `drop database if exists ${name} with (force)`)
  return { major, host, port, user, password, name, url, drop }
}

/** Runs one statement as superuser in the database `postgres`. */
async function command(major: PostgresMajor, sql: string): Promise<void> {
  const { Client } = (await import('pg')).default
  const { host, port, user, password } = await service('postgres', major)
  const client = new Client({ host, port, user, password, database: 'postgres' })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}

export interface FreshBucket extends S3Facts {
  bucket: string
}

/** An empty bucket of its own; with `lock`, one with Object Lock and therefore versioning, and no default retention. */
export async function freshBucket(
  options: { lock?: boolean; server?: 's3' | 's3-ceph16' | 's3-rclone' } = {},
): Promise<FreshBucket> {
  const facts = await service(options.server ?? 's3')
  const bucket = freshName('bucket-')
  const { s3Client } = await import('./s3.ts')
  const { CreateBucketCommand } = await import('@aws-sdk/client-s3')
  const client = s3Client(facts)
  try {
    await client.send(
      new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: options.lock ?? false }),
    )
  } finally {
    client.destroy()
  }
  return { ...facts, bucket }
}

export interface FreshContainer extends AzuriteFacts {
  container: string
}

/** An empty container of its own, in the account that all tests share. */
export async function freshContainer(): Promise<FreshContainer> {
  const facts = await service('azurite')
  const container = freshName('container-')
  const { ask } = await import('./azurite.ts')
  await ask(facts, 'PUT', `/${container}?restype=container`)
  return { ...facts, container }
}

/** An empty folder of the machine, by its absolute path; removed when this process ends. */
export async function freshFolder(): Promise<string> {
  if (folders.length === 0) process.once('exit', removeFolders)
  const folder = mkdtempSync(join(tmpdir(), 'folder-'))
  folders.push(folder)
  return folder
}

const folders: string[] = []

function removeFolders(): void {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
}

function freshName(prefix: string): string {
  return prefix + randomBytes(6).toString('hex')
}
