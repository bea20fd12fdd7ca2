// A server that speaks MongoDB's protocol, with MongoDB's own tools: Debian has neither, so Go builds them.

import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type MongodbFacts, ServiceUnavailable } from './facts.ts'
import { goPrograms } from './places.ts'
import { freePorts, until } from './process.ts'
import type { Starting } from './registry.ts'

export async function startMongodb(start: Starting): Promise<MongodbFacts> {
  const program = join(goPrograms, 'ferretdb')
  if (!existsSync(program)) throw new ServiceUnavailable('FerretDB has to be built by Go, which is not here')
  const port = await freePorts(1)
  const [data, state] = [join(start.dir, 'data'), join(start.dir, 'state')]
  for (const folder of [data, state]) await mkdir(folder)
  const [host, user, password] = ['127.0.0.1', 'owner', randomBytes(12).toString('hex')]
  const daemon = start.daemon(
    program,
    [
      ...['--handler=sqlite', `--sqlite-url=file:${data}/`, `--state-dir=${state}`],
      ...[`--listen-addr=${host}:${port}`, '--debug-addr=-', '--telemetry=disable', '--log-level=warn'],
      ...['--test-enable-new-auth', '--setup-database=test'],
    ],
    // By environment, as FerretDB allows for all of its options.
    { stopWith: 'SIGTERM', env: { FERRETDB_SETUP_USERNAME: user, FERRETDB_SETUP_PASSWORD: password } },
  )
  const uri = `mongodb://${user}:${password}@${host}:${port}/?authSource=test`
  await until('FerretDB', 30, daemon, () => firstAnswer(uri))
  return {
    ...{ host, port, user, password, uri },
    mongodump: join(goPrograms, 'mongodump'),
    mongorestore: join(goPrograms, 'mongorestore'),
  }
}

async function firstAnswer(uri: string): Promise<void> {
  const { MongoClient } = await import('mongodb')
  const client = new MongoClient(uri, { serverSelectionTimeoutMS: 500 })
  try {
    await client.db('test').command({ dbStats: 1 })
    // MongoDB's tools save and restore users only where the server says of which version they are.
    const versions = client.db('admin').collection<{ _id: string }>('system.version')
    await versions.updateOne({ _id: 'authSchema' }, { $set: { currentVersion: 5 } }, { upsert: true })
  } finally {
    await client.close()
  }
}
