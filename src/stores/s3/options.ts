import * as z from 'zod'
import { secretOption } from '../../platform/secret-source.ts'

/** The options of an S3 store, as they stand in the configuration. */
export const S3Options = z
  .strictObject({
    bucket: z
      .string()
      .min(1)
      .meta({ description: 'the bucket, which must be there', example: 'acme-backups' }),
    prefix: z
      .string()
      .default('')
      .meta({ description: 'the root within the bucket; taken as it is written', example: 'cairn' }),
    endpoint: z
      .url({ protocol: /^https?$/ })
      .optional()
      .meta({ description: 'where the server is; absent: AWS', example: 'https://s3.example' }),
    region: z
      .string()
      .min(1)
      .optional()
      .meta({ description: 'absent: what the environment or the profile says', example: 'eu-central-1' }),
    accessKeyId: secretOption
      .optional()
      .describe("absent: AWS's own chain (environment, profile, role, instance)"),
    secretAccessKey: secretOption.optional().describe('goes with accessKeyId'),
    sessionToken: secretOption.optional().describe('of credentials that last a while only'),
    profile: z
      .string()
      .min(1)
      .optional()
      .meta({ description: 'a profile of ~/.aws/config', example: 'backup' }),
    pathStyle: z
      .boolean()
      .optional()
      .describe('the bucket in the path of the address; true unless set with an endpoint of its own'),
    storageClass: z
      .string()
      .min(1)
      .optional()
      .meta({ description: 'as the server names it; the usual one unless set', example: 'STANDARD_IA' }),
    sse: z
      .strictObject({
        algorithm: z.enum(['AES256', 'aws:kms', 'aws:kms:dsse']).describe('AES256 is SSE-S3'),
        kmsKeyId: z.string().optional().describe('the key of KMS; the default one of the account unless set'),
      })
      .optional()
      .describe("the server's own encryption; it protects against thieves of disks, not of credentials"),
    customerKey: secretOption
      .optional()
      .describe('SSE-C: the base64 of 32 bytes, sent with every object; without it nothing can be read'),
    partSize: z
      .int()
      .min(5 * 2 ** 20)
      .max(5 * 2 ** 30)
      .optional()
      .meta({
        description:
          'bytes of every part, for servers that want equal parts (R2); ten thousand parts are the limit',
        example: 67_108_864,
      }),
    caFile: z.string().min(1).optional().meta({
      description: 'certificates of authorities to trust beside the usual ones',
      example: '/etc/ssl/acme.pem',
    }),
  })
  .refine(o => (o.accessKeyId === undefined) === (o.secretAccessKey === undefined), {
    error: 'accessKeyId and secretAccessKey go together',
    path: ['secretAccessKey'],
  })
  .refine(o => !(o.sse && o.customerKey), { error: 'say sse or customerKey', path: ['customerKey'] })

export type S3Options = z.output<typeof S3Options>
