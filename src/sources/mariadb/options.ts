import * as z from 'zod'
import { refusedArgument } from './arguments.ts'
import { connectionOptions } from './connection.ts'

/** What the two products' options have in common; each is a type of its own in the configuration. */
export const MariadbOptions = z
  .strictObject({
    ...connectionOptions,
    database: z.string().min(1).optional().describe('one database; wins over the one in the URL'),
    databases: z
      .union([z.array(z.string().min(1)).min(1), z.literal('all')])
      .optional()
      .describe('several databases, or "all" but those of the server itself: a backup for each'),
    whole: z
      .boolean()
      .default(false)
      .describe('all databases in one dump and one backup, of one moment; the unit is named "all"'),
    exclude: z.array(z.string().min(1)).default([]).describe('databases to leave out of "all" and "whole"'),
    globals: z
      .union([z.boolean(), z.literal('inside')])
      .default(true)
      .describe(
        'false: without the users and privileges of the server; "inside", with "whole": in the dump itself, so that one file holds all',
      ),
    createDatabase: z
      .boolean()
      .default(false)
      .describe('the dump of one database begins with CREATE DATABASE and USE, as one of several does'),
    args: z
      .array(z.string())
      .default([])
      .meta({
        description: 'more arguments for the dump program, as --name=value',
        example: ['--ignore-table=shop.logs'],
      }),
    clients: z
      .string()
      .min(1)
      .optional()
      .describe(
        'a folder with the client programs, itself or in <version>/bin; absent: CAIRN_MARIADB_CLIENTS or CAIRN_MYSQL_CLIENTS, PATH',
      ),
  })
  .refine(o => !(o.url && (o.host || o.socket)), {
    error: 'give the url, or host and its like, not both',
    path: ['url'],
  })
  .refine(o => !(o.defaultsFile && o.defaultsExtraFile), {
    error: 'defaultsFile is read instead of all others: give one of the two',
    path: ['defaultsFile'],
  })
  .refine(
    o => [o.database, o.databases, o.whole || undefined].filter(each => each !== undefined).length <= 1,
    {
      error: 'say one of database, databases and whole',
      path: ['database'],
    },
  )
  .refine(o => o.globals !== 'inside' || o.whole, {
    error: 'only a dump of the whole server holds the accounts inside: say whole: true',
    path: ['globals'],
  })
  .superRefine(({ args }, ctx) => {
    const message = refusedArgument(args)
    if (message !== null) ctx.addIssue({ code: 'custom', message, path: ['args'] })
  })

export type MariadbOptions = z.output<typeof MariadbOptions>
