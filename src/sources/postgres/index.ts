import * as z from 'zod'
import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { Inspection, Source } from '../../model/source.ts'
import { whySilent } from './activity.ts'
import { connect } from './connect.ts'
import {
  type Connection,
  connectionOptions,
  onDatabase,
  resolveConnection,
  showConnection,
} from './connection.ts'
import { identityOf, isEmpty, serverVersion } from './server.ts'
import { openSession } from './session.ts'

export { postgresRestorer } from './restorer.ts'

/** The options of a PostgreSQL database, as they stand in the configuration. */
export const PostgresOptions = z
  .strictObject({
    ...connectionOptions,
    clients: z
      .string()
      .min(1)
      .optional()
      .describe(
        'a folder with <major>/bin/pg_dump and so on; absent: CAIRN_POSTGRES_CLIENTS, /usr/lib/postgresql, PATH',
      ),
    allowEmpty: z
      .boolean()
      .default(false)
      .describe('back up a database that holds nothing; otherwise that is taken for a mistake'),
  })
  .refine(o => !(o.url && (o.host || o.socket)), {
    error: 'give the url, or host and its like, not both',
    path: ['url'],
  })

export type PostgresOptions = z.output<typeof PostgresOptions>

/** One database of a PostgreSQL server and the server's globals, dumped by PostgreSQL's own programs. */
export function postgresSource(options: PostgresOptions): Source {
  const running = new Set<string>()
  return {
    engine: 'postgres',
    inspect: async ctx => inspect(await resolveConnection(options), options.allowEmpty, ctx),
    async open(unit, _parent, census, ctx) {
      const connection = onDatabase(await resolveConnection(options), unit.name)
      return await openSession({ connection, census, clients: options.clients, running }, ctx)
    },
    async whySilent(ctx) {
      if (running.size === 0) return ''
      return await whySilent(await resolveConnection(options), [...running], ctx)
    },
  }
}

/** Throws a usage Failure for a database that holds nothing: usually it is the wrong one. */
async function inspect(connection: Connection, allowEmpty: boolean, ctx: Context): Promise<Inspection> {
  await using db = await connect(connection, 'cairn', ctx)
  const version = await serverVersion(db)
  if (!allowEmpty && (await isEmpty(db))) {
    throw usage(
      `cannot back up ${showConnection(connection)}`,
      'the database is empty',
      'check that it is the right one; if it is, say allowEmpty: true',
    )
  }
  const { bytes } = await db.one<{ bytes: number }>(
    'SELECT pg_database_size(current_database())::float8 AS bytes',
  )
  return {
    identity: await identityOf(db),
    version: version.text,
    units: [{ name: connection.database }],
    estimate: bytes,
  }
}
