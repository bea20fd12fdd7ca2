import { createHash } from 'node:crypto'
import { keyOf } from '../src/engine/statement.ts'
import { beginKey, dataPrefix, markKey, nativeNaming, newId } from '../src/model/key.ts'
import { encodeManifest, type Manifest } from '../src/model/manifest.ts'

/** An object as it lies in a store. */
export interface StoredFile {
  readonly key: string
  readonly body: Uint8Array
}

const jobs = 10
const hour = 3_600_000

/** What so many backups leave in a store, without their data: hourly ones of ten jobs, each with its manifest and begin record. */
export function* manyBackups(count: number): Generator<StoredFile> {
  for (let n = 0; n < count; n++) {
    const { id, job, startedAt } = backupOf(n)
    const begin = {
      cairn: 1,
      id,
      job,
      host: 'bench',
      startedAt: startedAt.toISOString(),
      prefixes: [dataPrefix(job, id)],
    }
    yield { key: beginKey(job, id), body: Buffer.from(`${JSON.stringify(begin)}\n`) }
    const manifest = manifestFor(id, job, startedAt)
    const body = encodeManifest(manifest)
    yield { key: keyOf(manifest, body), body }
  }
}

/** A mark for each of them: what `cairn verify` leaves. */
export function* manyMarks(count: number): Generator<StoredFile> {
  for (let n = 0; n < count; n++) {
    const { id, startedAt } = backupOf(n)
    const at = new Date(startedAt.getTime() + hour)
    yield {
      key: markKey(id, at, bytesOf(`mark ${n}`), 'verified'),
      body: Buffer.from('{"cairn":1,"plain":{}}\n'),
    }
  }
}

function backupOf(n: number): { id: string; job: string; startedAt: Date } {
  const startedAt = new Date(Date.UTC(2026, 0, 1) + Math.floor(n / jobs) * hour)
  return { id: newId(startedAt, bytesOf(`backup ${n}`)), job: `job-${n % jobs}`, startedAt }
}

function manifestFor(id: string, job: string, startedAt: Date): Manifest {
  const instant = startedAt.toISOString()
  const artifact = (name: string, ordinal: number, bytes: number): Manifest['artifacts'][number] => {
    const key = nativeNaming(
      { id, job, unit: job, startedAt },
      { name, role: 'data', ordinal, suffix: '.zst.age' },
    )
    const stored = { bytes, sha256: createHash('sha256').update(key).digest('hex') }
    return {
      name,
      media: ordinal === 1 ? 'pg_dump-custom' : ordinal === 2 ? 'sql' : 'json',
      role: ordinal === 1 ? 'data' : ordinal === 2 ? 'globals' : 'census',
      stages: [
        { name: 'zstd', frames: 'many', level: 1 },
        { name: 'age', recipients: [stored.sha256.slice(0, 16)] },
      ],
      plain: { bytes: null, sha256: null },
      stored,
      objects: [{ key, ...stored }],
      undo: 'age -d -i KEY | zstd -d',
    }
  }
  return {
    cairn: 1,
    id,
    job,
    unit: 'shop',
    kind: 'logical',
    tool: 'cairn 0.1.0',
    host: 'bench',
    startedAt: instant,
    capturedAt: instant,
    finishedAt: instant,
    consistentAt: instant,
    source: {
      engine: 'postgres',
      identity: 'pg:7301234567890123456/shop',
      version: '15.18',
      client: 'pg_dump 15.18',
      options: {},
    },
    artifacts: [
      artifact('postgres/shop.dump', 1, 123_456_789),
      artifact('postgres/globals.sql', 2, 1234),
      artifact('census.json', 3, 4321),
    ],
    census: {
      level: 'counts',
      at: 'snapshot',
      objects: 214,
      rows: 5_000_123,
      artifact: 'census.json',
      unseen: [],
    },
    encrypted: true,
    warnings: [],
  }
}

/** Five bytes that look random. */
function bytesOf(text: string): Uint8Array {
  return createHash('sha256').update(text).digest().subarray(0, 5)
}
