// What happens around the reading of a source: commands, and containers that stand still.

import * as z from 'zod'
import { secretOption } from '../../platform/secret-source.ts'
import { Duration } from './values.ts'

const HookCommand = z
  .union([z.string().min(1), z.array(z.string()).min(1)])
  .describe('a line for /bin/sh, or [PROGRAM, ARG...]')

const hookMs = 5 * 60_000

const Hook = z
  .union([
    HookCommand,
    z.strictObject({
      run: HookCommand,
      timeout: Duration.describe('longer than this: ended, and failed; 5 min unless set').default(hookMs),
      env: z
        .record(z.string(), secretOption)
        .meta({
          description: 'environment variables; the others of Cairn are not handed on',
          example: { TOKEN: { file: '/run/secrets/token' } },
        })
        .default({}),
    }),
  ])
  .meta({
    id: 'Hook',
    description: 'a command, or one with a time-out or an environment',
    example: ['systemctl', 'stop', 'shop'],
  })
  .transform(said =>
    typeof said === 'string' || Array.isArray(said) ? { run: said, timeout: hookMs, env: {} } : said,
  )

export const Hooks = z
  .strictObject({
    before: z.array(Hook).describe('before the sources are looked at; the first that fails stops the job'),
    after: z
      .array(Hook)
      .describe(
        'when the sources were read, whatever happened; after a crash, at the beginning of the next run',
      ),
    onFailure: z
      .array(Hook)
      .describe('at the end of a job that failed, wholly or in part; CAIRN_ERROR says why'),
  })
  .partial()
  .describe('commands of yours, run around the reading')

const second = 1000

export const Containers = z
  .strictObject({
    stop: z
      .array(z.string().min(1))
      .meta({
        description:
          'containers by their exact names, else services of the compose project, all replicas; beside those with the label cairn.stop=JOB',
        example: ['app', 'worker'],
      })
      .default([]),
    project: z
      .string()
      .min(1)
      .meta({
        description:
          "the compose project; that of Cairn's own container, else COMPOSE_PROJECT_NAME, unless set",
        example: 'shop',
      })
      .optional(),
    wait: Duration.describe('how long to wait after stopping; 2 s unless set').default(2 * second),
    startWait: Duration.describe(
      'how long to wait after starting, beside the wait for health; none unless set',
    ).default(0),
    startTimeout: Duration.describe(
      'a container that is not healthy, or not running, so long after its start is a warning; 5 min unless set',
    ).default(hookMs),
    execTimeout: Duration.describe(
      'a command of the labels cairn.exec-before and cairn.exec-after may take so long; 5 min unless set',
    ).default(hookMs),
    host: z
      .string()
      .regex(/^(unix:\/\/\/|tcp:\/\/|https?:\/\/)/, 'must begin with unix:///, tcp://, http:// or https://')
      .meta({
        description: 'where Docker answers; DOCKER_HOST, else unix:///var/run/docker.sock, unless set',
        example: 'unix:///var/run/docker.sock',
      })
      .optional(),
  })
  .meta({
    description:
      'containers that stand still while the sources are read, and are started again whatever happens; {} for those with labels alone',
    example: { stop: ['app'] },
  })
