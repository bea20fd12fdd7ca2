import * as z from 'zod'
import { type SecretSource, secretOption } from '../../platform/secret-source.ts'

export const MongodbOptions = z
  .strictObject({
    uri: secretOption.describe(
      'mongodb://user:password@host:port/database?authSource=admin, or mongodb+srv://; every option of the driver counts',
    ),
    database: z.string().min(1).optional().describe('one database; wins over the one in the URI'),
    databases: z
      .union([z.array(z.string().min(1)).min(1), z.literal('all')])
      .optional()
      .describe(
        'several databases, or "all" but those of the server itself: a backup for each; "all" is also what a URI without a database means, or with admin',
      ),
    whole: z
      .boolean()
      .default(false)
      .describe('all databases in one archive and one backup; the unit is named "all"'),
    exclude: z.array(z.string().min(1)).default([]).describe('databases to leave out of "all" and "whole"'),
    accounts: z
      .boolean()
      .default(true)
      .describe('false: without the users and roles; of one database, those that are defined in it'),
    snapshot: z
      .boolean()
      .optional()
      .describe(
        'true: fail where the server cannot give all collections as of one moment (a replica set can, from 5.0 on); false: do not ask for it; absent: where it can, and keeps that moment long enough',
      ),
    layout: z
      .enum(['archive', 'directory'])
      .default('archive')
      .describe(
        'archive: one stream, as mongodump --archive writes it; directory: two files a collection, for few collections, or as a member of an archive',
      ),
  })
  .refine(
    o => [o.database, o.databases, o.whole || undefined].filter(each => each !== undefined).length <= 1,
    { error: 'say one of database, databases and whole', path: ['database'] },
  )

export type MongodbOptions = z.output<typeof MongodbOptions>

export interface RestorerOptions {
  /** Where it goes. Without a login, on the source's own hosts, the source's login is taken. */
  readonly target?: SecretSource | undefined
  readonly source?: SecretSource | undefined
}
