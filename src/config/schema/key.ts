import * as z from 'zod'
import { keyFault } from '../../model/key.ts'
import { keyPattern } from '../../model/key-pattern.ts'
import { Zone } from './values.ts'

const KeyName = z.string().superRefine((text, ctx) => {
  try {
    const { key } = keyPattern(text, { zone: 'UTC', plain: false })
    const fault = keyFault(key('name', new Date(0)))
    if (fault) ctx.addIssue(`"${text}" cannot be the name of an object: ${fault}`)
  } catch (error) {
    ctx.addIssue((error as Error).message)
  }
})

export const Key = z
  .strictObject({
    name: KeyName.meta({
      description:
        'in the words of strftime, with ${DB} for the database ($$ is a $); what the stages add follows it',
      example: '${DB}-%Y-%m-%dT%H-%M-%SZ.sql',
    }),
    timezone: Zone.meta({
      description: 'whose clocks; the zone of the job unless set',
      example: 'UTC',
    }).optional(),
    plain: z
      .boolean()
      .default(false)
      .describe('every run of characters but A-Z a-z 0-9 _ . / becomes one "-"'),
    suffix: z.boolean().default(true).describe('false: what the stages add to a name is left out'),
  })
  .meta({
    id: 'Key',
    description:
      'names the objects, which are backups by these names alone then, one object each; for what an older tool wrote or reads',
    example: { name: '${DB}-%Y-%m-%dT%H-%M-%SZ.sql' },
  })
