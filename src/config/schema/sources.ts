import * as z from 'zod'
import { sourceOptions } from '../../sources/index.ts'

const sources = [
  sourceOptions.postgres.safeExtend({ type: z.literal('postgres') }),
  sourceOptions.mariadb.safeExtend({ type: z.literal('mariadb') }),
  sourceOptions.mysql.safeExtend({ type: z.literal('mysql') }),
  sourceOptions.mongodb.safeExtend({ type: z.literal('mongodb') }),
  sourceOptions.sqlite.extend({ type: z.literal('sqlite') }),
  sourceOptions.files.extend({ type: z.literal('files') }),
  sourceOptions.file.extend({ type: z.literal('file') }),
] as const

export const PartSource = z.discriminatedUnion('type', [...sources])

export const ArchiveMember = z.strictObject({
  name: z
    .string()
    .regex(/^(?!\.{1,2}$)[^/\0]+$/, 'must be a single name without "/"')
    .meta({ description: 'the name in the archive', example: 'shop.dump' }),
  source: PartSource,
  gzip: z.boolean().default(false).describe('compress this member by itself, too'),
  optional: z.boolean().default(false).describe('its absence is a warning, not a failure'),
  required: z
    .boolean()
    .default(false)
    .describe('without it there is no archive: one under the same name stays as it is'),
})

const Archive = z.strictObject({
  type: z.literal('archive'),
  name: z.string().min(1).meta({ description: 'what the backup is called', example: 'shop' }),
  members: z
    .array(ArchiveMember)
    .min(1)
    .refine(members => new Set(members.map(({ name }) => name)).size === members.length, {
      message: 'two members have one name',
    })
    .meta({
      description: 'several sources as one tar; what cannot be read is left out, and told',
      example: [
        { name: 'shop.dump', source: { type: 'postgres', url: { env: 'SHOP_URL' }, globals: false } },
        { name: 'shop.json', source: { type: 'file', path: '/etc/shop.json' } },
      ],
    }),
})

export const Source = z.discriminatedUnion('type', [...sources, Archive])
