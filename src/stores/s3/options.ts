import * as z from 'zod'
import { secretOption } from '../../platform/secret-source.ts'

/** The options of an S3 store, as they stand in the configuration. */
export const S3Options = z
  .strictObject({
    bucket: z.string().min(1),
    prefix: z.string().default('').describe('the root within the bucket; taken as it is written'),
    endpoint: z
      .url({ protocol: /^https?$/ })
      .optional()
      .describe('absent: AWS'),
    region: z.string().min(1).optional().describe('absent: what the environment or the profile says'),
    accessKeyId: secretOption
      .optional()
      .describe("absent: AWS's own chain (environment, profile, role, instance)"),
    secretAccessKey: secretOption.optional(),
    sessionToken: secretOption.optional(),
    profile: z.string().min(1).optional().describe('a profile of ~/.aws/config'),
    pathStyle: z.boolean().optional().describe('default: true with an endpoint of its own'),
    storageClass: z.string().min(1).optional(),
    sse: z
      .strictObject({
        algorithm: z.enum(['AES256', 'aws:kms', 'aws:kms:dsse']),
        kmsKeyId: z.string().optional(),
      })
      .optional()
      .describe("the server's own encryption; it protects against thieves of disks, not of credentials"),
    partSize: z
      .int()
      .min(5 * 2 ** 20)
      .max(5 * 2 ** 30)
      .optional()
      .describe(
        'bytes of every part, for servers that want equal parts (R2); ten thousand parts are the limit',
      ),
    caFile: z
      .string()
      .min(1)
      .optional()
      .describe('certificates of authorities to trust beside the usual ones'),
  })
  .refine(o => (o.accessKeyId === undefined) === (o.secretAccessKey === undefined), {
    error: 'accessKeyId and secretAccessKey go together',
    path: ['secretAccessKey'],
  })

export type S3Options = z.output<typeof S3Options>
