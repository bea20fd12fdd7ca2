// A PostgreSQL server of any supported major version. Fast rather than durable: its data dies with the run.

import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { appendFile, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { type PostgresFacts, ServiceUnavailable } from './facts.ts'
import { type PostgresMajor, postgresServer } from './places.ts'
import { freePorts, run, until } from './process.ts'
import type { Starting } from './registry.ts'

export async function startPostgres(start: Starting, major: PostgresMajor): Promise<PostgresFacts> {
  const bin = postgresServer(major)
  if (!existsSync(join(bin, 'initdb'))) throw new ServiceUnavailable(`no PostgreSQL ${major} in ${bin}`)
  const facts: PostgresFacts = {
    major,
    host: '127.0.0.1',
    port: await freePorts(),
    user: 'postgres',
    password: randomBytes(12).toString('hex'),
    socket: start.dir,
    data: join(start.dir, 'data'),
    bin,
    osUser: process.getuid?.() === 0 ? 'postgres' : (process.env.USER ?? ''),
  }
  await initialize(facts, start.dir)
  const daemon = start.daemon(join(bin, 'postgres'), ['-D', facts.data], {
    stopWith: 'SIGQUIT',
    ...serverUser(),
  })
  await until(`PostgreSQL ${major}`, 60, daemon, () => answer(facts))
  return facts
}

/** PostgreSQL refuses to run as root. */
function serverUser(): { user?: string } {
  return process.getuid?.() === 0 ? { user: 'postgres' } : {}
}

async function initialize(facts: PostgresFacts, dir: string): Promise<void> {
  const secret = join(dir, 'password')
  await mkdir(facts.data)
  await writeFile(secret, facts.password)
  const options = [
    '--no-sync',
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C.UTF-8',
    '--data-checksums',
  ]
  const initdb = [
    join(facts.bin, 'initdb'),
    '-D',
    facts.data,
    '-U',
    facts.user,
    '--pwfile',
    secret,
    ...options,
  ]
  const { user } = serverUser()
  if (user) await run('chown', ['-R', `${user}:`, dir])
  await run('setpriv', [
    ...(user ? [`--reuid=${user}`, `--regid=${user}`, '--init-groups'] : []),
    '--',
    ...initdb,
  ])
  await rm(secret)
  await appendFile(join(facts.data, 'postgresql.conf'), settings(facts))
}

function settings({ port, socket, major }: PostgresFacts): string {
  const lines = [
    `port = ${port}`,
    `listen_addresses = '127.0.0.1'`,
    `unix_socket_directories = '${socket}'`,
    'fsync = off',
    'synchronous_commit = off',
    'full_page_writes = off',
    'max_connections = 200',
    'max_wal_senders = 30',
    'max_replication_slots = 30',
    'shared_buffers = 64MB',
    'max_wal_size = 512MB',
    'autovacuum_naptime = 10min',
    `timezone = 'UTC'`,
    `log_timezone = 'UTC'`,
  ]
  // Incremental base backups need the summaries.
  if (major >= 17) lines.push('summarize_wal = on')
  return `${lines.join('\n')}\n`
}

async function answer({ host, port, user, password }: PostgresFacts): Promise<void> {
  const client = new pg.Client({ host, port, user, password, database: 'postgres' })
  // A server still starting also resets connections after they were made.
  client.on('error', () => {})
  try {
    await client.connect()
    await client.query('select 1')
  } finally {
    await client.end().catch(() => {})
  }
}
