import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { CreateBucketCommand } from '@aws-sdk/client-s3'
import type { PostgresFacts, S3Facts } from '../test/services/facts.ts'
import { s3Client } from '../test/services/s3.ts'
import { type Comparison, cairnSide, interleaved, type Side, serverCpu, storedBytes } from './postgres.ts'
import { makeRows, withClient } from './rows.ts'
import type { Workbench } from './workbench.ts'

/** A replaced tool: what it ran, in the words of a shell, and how fast Cairn promises to be beside it. */
interface Old {
  readonly bench: Comparison['bench']
  readonly peer: string
  readonly env: Readonly<Record<string, string>>
  /** What the old tool did, its output going to `$OUT`. */
  readonly pipeline: string
  /** The bucket that `$OUT` went to then, if it did. */
  readonly uploads?: Bucket
}

/** The limit of Cairn's wall time, as a part of the old tool's. */
export const dialectLimits: Readonly<Record<string, number>> = {
  rclone: 1 / 4,
  moonflower: 1 / 4,
  'moonflower-gpg': 1 / 1.5,
  sidecar: 1 / 4,
  'pgdump-s3': 1 / 3,
}

export const oldPeer = 'the old pipeline'

/**
 * Each dialect against what the tool ran that it replaces, on the same database. Two of the tools wrote a local file and sent
 * it to S3 then: rclone does that here, which takes less than what they used.
 */
export async function benchDialects(
  bench: Workbench,
  size: { readonly name: string; readonly bytes: number },
  options: { readonly rounds: number; readonly seed: number; readonly say: (text: string) => void },
): Promise<Comparison[]> {
  bench.needSpace(6 * size.bytes + 2e9)
  const facts = await bench.postgres()
  const bucket = await bucketOf(await bench.s3('lightly'))
  const keepingTags = await bucketOf(await bench.s3())
  const database = `bench_${randomBytes(4).toString('hex')}`
  const { user, password, host, port } = facts
  const url = (name: string): string => `postgresql://${user}:${password}@${host}:${port}/${name}`
  await withClient(url('postgres'), client => client.query(`CREATE DATABASE ${database} TEMPLATE template0`))
  try {
    options.say(`making ${size.name} of rows`)
    const databaseBytes = await makeRows(url(database), size.bytes, options.seed)
    const results: Comparison[] = []
    for (const old of olds(bench, facts, { bucket, keepingTags }, database, url(database))) {
      const sides = sidesOf(bench, facts, database, old)
      const runs = await interleaved(
        `${old.bench} ${size.name}`,
        sides,
        options.rounds,
        () => serverCpu(facts),
        options.say,
      )
      results.push({ bench: old.bench, size: size.name, databaseBytes, runs })
    }
    return results
  } finally {
    await withClient(url('postgres'), client => client.query(`DROP DATABASE ${database} WITH (FORCE)`))
    rmSync(join(bench.folder, 'store'), { recursive: true, force: true })
  }
}

interface Bucket extends S3Facts {
  readonly bucket: string
}

async function bucketOf(facts: S3Facts): Promise<Bucket> {
  const bucket = `bench-${randomBytes(4).toString('hex')}`
  const client = s3Client(facts)
  await client.send(new CreateBucketCommand({ Bucket: bucket }))
  client.destroy()
  return { ...facts, bucket }
}

/** `keepingTags`: pgdump-s3 tags its objects, which the lighter server does not know. */
function olds(
  bench: Workbench,
  facts: PostgresFacts,
  { bucket: s3, keepingTags: tagged }: { readonly bucket: Bucket; readonly keepingTags: Bucket },
  database: string,
  url: string,
): Old[] {
  const store = join(bench.folder, 'store')
  const passphrase = join(bench.folder, 'passphrase')
  const key = join(bench.folder, 'encrypt.key')
  const passfile = join(bench.folder, 'pgpass')
  writeFileSync(passphrase, 'a passphrase of some length')
  writeFileSync(key, `${'k'.repeat(40)}\n`, { mode: 0o600 })
  writeFileSync(passfile, `*:*:*:*:${facts.password}\n`, { mode: 0o600 })
  const gpg = `gpg --batch --quiet --pinentry-mode loopback --passphrase-file ${passphrase} --symmetric --cipher-algo AES256`
  const moonflower = {
    ...{
      CAIRN_DIALECT: 'moonflower',
      PG_DATABASES: database,
      PG_HOST: facts.host,
      PG_PORT: String(facts.port),
    },
    ...{ PG_USER: facts.user, PG_PASSWORD: facts.password, S3_ENDPOINT: s3.endpoint, S3_REGION: s3.region },
    ...{ S3_BUCKET: s3.bucket, S3_ACCESS_KEY: s3.accessKey, S3_SECRET_KEY: s3.secretKey },
  }
  return [
    {
      bench: 'rclone',
      peer: oldPeer,
      env: {
        ...{
          CAIRN_DIALECT: 'rclone',
          CAIRN_ENGINE: 'postgres',
          BACKUP_DATABASES: database,
          PGHOST: facts.host,
        },
        ...{ PGPORT: String(facts.port), PGUSER: facts.user, PGPASSWORD: facts.password },
        ...{ REMOTE_NAME: ':local', UPLOAD_PREFIX: store, ENCRYPT_RECIPIENTS: bench.recipient },
      },
      pipeline: `pg_dump | gzip | age -r ${bench.recipient} | dd bs=1M conv=fsync status=none of=$OUT`,
    },
    {
      bench: 'moonflower',
      peer: oldPeer,
      env: moonflower,
      pipeline: 'pg_dump -Z5 > $OUT',
      uploads: s3,
    },
    {
      bench: 'moonflower-gpg',
      peer: oldPeer,
      env: { ...moonflower, ENCRYPTION_PASSPHRASE: 'a passphrase of some length' },
      pipeline: `pg_dump | ${gpg} > $OUT`,
      uploads: s3,
    },
    {
      bench: 'sidecar',
      peer: oldPeer,
      env: {
        ...{ CAIRN_DIALECT: 'sidecar', BACKUP_NAME: 'bench', BACKUP_LOCAL_PATH: store },
        ...{ BACKUP_POSTGRES: url, BACKUP_ENCRYPTION_KEY: 'a passphrase of some length' },
      },
      pipeline: `pg_dump -Fc -f $DIR/postgres.dump; tar -cz -C $DIR postgres.dump | ${gpg} | dd bs=1M conv=fsync status=none of=$OUT`,
    },
    {
      bench: 'pgdump-s3',
      peer: oldPeer,
      env: {
        ...{ CAIRN_DIALECT: 'pgdump-s3', PG_HOST: facts.host, PG_PORT: String(facts.port), PG_DB: database },
        ...{ PG_USER: facts.user, PGPASSFILE: passfile, ENCRYPT_KEY_FILE: key, AWS_BUCKET: tagged.bucket },
        ...{ AWS_ENDPOINT_URL: tagged.endpoint, AWS_DEFAULT_REGION: tagged.region },
        ...{ AWS_ACCESS_KEY_ID: tagged.accessKey, AWS_SECRET_ACCESS_KEY: tagged.secretKey },
      },
      pipeline: `pg_dump -Fd -j2 -Z0 -f $DIR/backup; pg_dumpall --globals-only > $DIR/globals; tar -cz -C $DIR backup globals | aespipe -e AES256 -C 10000 -P ${key} > $OUT`,
      uploads: tagged,
    },
  ]
}

function sidesOf(
  bench: Workbench,
  facts: PostgresFacts,
  database: string,
  { env, peer, pipeline, uploads }: Old,
): Side[] {
  const clients = { CAIRN_POSTGRES_CLIENTS: dirname(dirname(facts.bin)) }
  return [
    {
      name: cairnSide,
      async run() {
        rmSync(join(bench.folder, 'store'), { recursive: true, force: true })
        // The sidecar's `run` would wait for somebody.
        const measured = await bench.cairn(['backup', '--json', '--quiet'], { ...env, ...clients })
        return { measured, outBytes: storedBytes(measured.stdout) }
      },
    },
    {
      name: peer,
      async run() {
        // Not the one before: gpg's agent may make its folders there again after they were removed.
        const dir = mkdtempSync(join(bench.folder, 'old-'))
        const login = {
          PGHOST: facts.host,
          PGPORT: String(facts.port),
          PGUSER: facts.user,
          PGPASSWORD: facts.password,
        }
        const remote = {
          // Debian's rclone cannot start where it is set.
          AWS_CA_BUNDLE: '',
          ...{ RCLONE_CONFIG: '/dev/null', RCLONE_CONFIG_S3_TYPE: 's3', RCLONE_CONFIG_S3_PROVIDER: 'Ceph' },
          ...(uploads && {
            RCLONE_CONFIG_S3_ENDPOINT: uploads.endpoint,
            RCLONE_CONFIG_S3_REGION: uploads.region,
            RCLONE_CONFIG_S3_ACCESS_KEY_ID: uploads.accessKey,
            RCLONE_CONFIG_S3_SECRET_ACCESS_KEY: uploads.secretKey,
          }),
        }
        const upload = uploads ? `; rclone copyto $OUT s3:${uploads.bucket}/old` : ''
        const places = { DIR: dir, OUT: join(dir, 'out'), GNUPGHOME: dir, PGDATABASE: database }
        const text = pipeline.replaceAll(/\bpg_dump(all)?\b/g, program => `${facts.bin}/${program}`)
        try {
          const measured = await bench.run(
            { pipeline: `set -e; ${text}${upload}; stat -c %s $OUT` },
            { ...login, ...remote, ...places },
          )
          return { measured, outBytes: Number(measured.stdout) }
        } finally {
          rmSync(dir, { recursive: true, force: true })
        }
      },
    },
  ]
}
