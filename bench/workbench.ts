import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { generateIdentity } from '../src/stages/index.ts'
import type { MariadbFacts, PostgresFacts, S3Facts } from '../test/services/facts.ts'
import { fullerRclone } from '../test/services/places.ts'
import { createRegistry } from '../test/services/registry.ts'
import { type Measurable, type Measured, measure } from './measure.ts'

/** A machine to measure on: a folder, servers, a key, and Cairn with a state folder of its own. */
export interface Workbench {
  readonly folder: string
  readonly recipient: string
  /** The file of the key that fits the recipient. */
  readonly identity: string
  postgres(): Promise<PostgresFacts>
  mariadb(): Promise<MariadbFacts>
  /** Ceph's gateway; `lightly`, what asks least of the processors that both sides need: rclone, where Go has built it. */
  s3(how?: 'lightly'): Promise<S3Facts>
  /** Writes the configuration that `cairn` uses from now on. */
  configure(config: object): void
  cairn(args: readonly string[], env?: Readonly<Record<string, string>>): Promise<Measured>
  run(what: Measurable, env?: Readonly<Record<string, string>>): Promise<Measured>
  /** Throws when the disk has less than this free. */
  needSpace(bytes: number): void
}

/** Opens a workbench in TMPDIR. When this process ends, however it does, its servers are stopped and all is removed. */
export async function openWorkbench(cairn: string): Promise<Workbench> {
  const folder = mkdtempSync(join(tmpdir(), 'cairn-bench-'))
  // Servers run as other users, and have to get to their folders.
  chmodSync(folder, 0o711)
  mkdirSync(join(folder, 'services'), { mode: 0o711 })
  const services = createRegistry(join(folder, 'services'))
  process.once('exit', () => {
    services.stop()
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  })
  const { recipient, identity } = await generateIdentity()
  const keyFile = join(folder, 'key.txt')
  writeFileSync(keyFile, `${identity.reveal()}\n`, { mode: 0o600 })
  const config = join(folder, 'cairn.yaml')
  writeFileSync(config, '{}')
  const env = { CAIRN_STATE: join(folder, 'state'), CAIRN_CONFIG: config, AWS_EC2_METADATA_DISABLED: 'true' }
  const run = (what: Measurable, more: Readonly<Record<string, string>> = {}): Promise<Measured> =>
    measure(what, { env: { ...env, ...more }, cwd: folder })
  return {
    folder,
    recipient,
    identity: keyFile,
    run,
    cairn: (args, more) => run({ argv: [cairn, ...args] }, more),
    configure: content => writeFileSync(config, JSON.stringify(content, null, 1)),
    postgres: async () => (await services.get('postgres', 15)) as PostgresFacts,
    mariadb: async () => (await services.get('mariadb', 10.11)) as MariadbFacts,
    s3: async how => {
      const light = how === 'lightly' && existsSync(fullerRclone)
      return (await services.get(light ? 's3-rclone' : 's3')) as S3Facts
    },
    needSpace(bytes) {
      const { bavail, bsize } = statfsSync(folder)
      if (bavail * bsize >= bytes) return
      throw new Error(
        `${Math.ceil(bytes / 1e9)} GB are needed in ${dirname(folder)}: set TMPDIR to a disk that has them`,
      )
    },
  }
}

/** The versions of the programs that take part. */
export function versions(): Record<string, string> {
  const first = (command: string, ...args: string[]): string => {
    try {
      return /\d+\.[\d.]+/.exec(execFileSync(command, args, { encoding: 'utf8' }))?.[0] ?? '?'
    } catch {
      return 'absent'
    }
  }
  return {
    node: process.versions.node,
    zstd: first('zstd', '--version'),
    age: first('age', '--version'),
    gzip: first('gzip', '--version'),
  }
}
