import * as z from 'zod'
import { AespipeOptions } from './aespipe.ts'
import { AgeOptions, exampleRecipient } from './age.ts'
import { GpgOptions } from './gpg.ts'
import { GzipOptions } from './gzip.ts'
import { ZstdOptions } from './zstd.ts'

const oneOf = (options: object): boolean =>
  Object.values(options).filter(each => each !== undefined).length === 1

export const Compression = z
  .union([
    z.literal('none'),
    z
      .strictObject({ zstd: ZstdOptions.optional(), gzip: GzipOptions.optional() })
      .refine(oneOf, { message: 'say one of "zstd" and "gzip"' }),
  ])
  .meta({ description: 'zstd (by default), gzip, or "none"', example: { zstd: { level: 1 } } })
export type Compression = z.infer<typeof Compression>

export const Encryption = z
  .union([
    z.literal('none'),
    z
      .strictObject({
        age: AgeOptions.optional(),
        gpg: GpgOptions.optional(),
        aespipe: AespipeOptions.optional(),
      })
      .refine(oneOf, { message: 'say one of "age", "gpg" and "aespipe"' }),
  ])
  .meta({
    description: 'age (recommended), gpg, aespipe, or "none"',
    example: { age: { recipients: [exampleRecipient] } },
  })
export type Encryption = z.infer<typeof Encryption>
