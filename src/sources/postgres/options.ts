import * as z from 'zod'
import { refusedArgument } from './arguments.ts'
import { connectionOptions, databaseName } from './connection.ts'

/** The options of PostgreSQL databases, as they stand in the configuration. */
export const PostgresOptions = z
  .strictObject({
    ...connectionOptions,
    databases: z
      .union([z.literal('all'), z.array(databaseName).min(1)])
      .optional()
      .describe(
        'several databases, each a backup of its own: a list of names, or "all"; instead of database',
      ),
    exclude: z
      .array(z.string().min(1))
      .optional()
      .meta({
        description:
          'with databases: all, the names that are left out; * stands for any characters, ? for one',
        example: ['test_*'],
      }),
    whole: z
      .boolean()
      .default(false)
      .describe('the whole server as one script of pg_dumpall; its databases are not of one moment'),
    format: z
      .enum(['custom', 'plain', 'directory'])
      .default('custom')
      .describe('how pg_dump writes; directory is read by several connections, and needs room in the spool'),
    globals: z
      .union([z.boolean(), z.literal('only')])
      .default(true)
      .describe(
        'false: without the roles and tablespaces of the server, and without the settings of the database; "only": these alone',
      ),
    jobs: z.int().min(1).max(64).optional().meta({
      description: 'with format: directory, how many tables are read at once; 1 unless set',
      example: 4,
    }),
    args: z
      .array(z.string())
      .default([])
      .meta({
        description:
          'more arguments for pg_dump (with whole: for pg_dumpall), as "--exclude-table-data=logs"',
        example: ['--exclude-table-data=logs'],
      }),
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
  .superRefine((o, ctx) => {
    for (const [path, message] of faults(o)) ctx.addIssue({ code: 'custom', message, path: [path] })
  })

export type PostgresOptions = z.output<typeof PostgresOptions>

/** What does not go together, each with the option to blame. */
function* faults(o: {
  readonly url?: unknown
  readonly host?: string | undefined
  readonly socket?: string | undefined
  readonly database?: string | undefined
  readonly databases?: 'all' | readonly string[] | undefined
  readonly exclude?: readonly string[] | undefined
  readonly whole: boolean
  readonly format: string
  readonly jobs?: number | undefined
  readonly args: readonly string[]
}): Generator<[string, string]> {
  if (o.url && (o.host || o.socket)) yield ['url', 'give the url, or host and its like, not both']
  if (o.host && o.socket) yield ['socket', 'give host or socket, not both']
  if (o.databases && o.database) yield ['databases', 'give database or databases, not both']
  if (o.whole && (o.databases || o.database))
    yield ['whole', 'whole is all databases: leave out database and databases']
  if (o.exclude && o.databases !== 'all') yield ['exclude', 'it goes with "databases: all" only']
  if (Array.isArray(o.databases) && new Set(o.databases).size < o.databases.length)
    yield ['databases', 'a name stands there twice']
  if (o.whole && o.format !== 'custom') yield ['format', 'whole is always plain SQL: leave out format']
  if (o.jobs !== undefined && o.format !== 'directory')
    yield ['jobs', 'it goes with "format: directory" only']
  const refused = refusedArgument(o.args, o.whole)
  if (refused) yield ['args', `${refused.argument} cannot be used here: ${refused.instead}`]
}
