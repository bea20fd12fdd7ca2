import { createHash } from 'node:crypto'
import type { Context } from '../model/context.ts'
import { addSpan } from '../model/duration-words.ts'
import { Failure } from '../model/failure.ts'
import type { Job } from '../model/job.ts'
import { manifestKey } from '../model/key.ts'
import { censusName, encodeManifest, type Manifest, manifestLimit, type Warning } from '../model/manifest.ts'
import type { Begin } from '../model/mark.ts'
import type { Census } from '../model/source.ts'
import { toolVersion } from '../model/version.ts'
import type { Captured } from './capture.ts'
import type { Delivery } from './delivery.ts'
import type { Task } from './take.ts'

/** The manifest of what was captured. Throws a Failure when even without warnings it is larger than a manifest may be. */
export function manifestOf(
  job: Job,
  { source, inspection, unit }: Task,
  begin: Begin,
  { artifacts, census, facts }: Captured,
  unkept: Delivery['unkept'],
  ctx: Context,
): Manifest {
  const lockedUntil = lastLock(job, begin, unkept)
  const identity = unit.identity ?? inspection.identity
  return fitted({
    cairn: 1,
    id: begin.id,
    job: job.name,
    unit: unit.name,
    kind: facts.kind,
    tool: `cairn ${toolVersion}`,
    host: begin.host,
    startedAt: begin.startedAt,
    capturedAt: facts.capturedAt.toISOString(),
    finishedAt: ctx.clock.now().toISOString(),
    consistentAt: facts.consistentAt.toISOString(),
    source: {
      engine: source.engine,
      identity: inspection.local ? `${identity}@${begin.host}` : identity,
      version: inspection.version,
      client: facts.client,
      options: facts.options,
    },
    ...(facts.chain ? { chain: facts.chain } : {}),
    artifacts: [...artifacts],
    census: census && totals(census),
    encrypted: job.stages.some(stage => stage.encrypts),
    ...(facts.missing?.length ? { missing: facts.missing.map(({ message }) => message) } : {}),
    ...(lockedUntil ? { lockedUntil } : {}),
    warnings: [...ofStages(job), ...facts.warnings, ...secretsInClear(job, artifacts)],
  })
}

function ofStages(job: Job): Warning[] {
  return job.stages.flatMap(({ warning }) => (warning ? [{ what: `${warning.what}: ${warning.why}` }] : []))
}

function secretsInClear(job: Job, artifacts: Captured['artifacts']): Warning[] {
  const encrypted = job.stages.some(stage => stage.encrypts)
  const globals = artifacts.find(artifact => artifact.role === 'globals')
  if (encrypted || !globals) return []
  return [{ what: 'it is not encrypted, and may hold the password hashes of roles', path: globals.name }]
}

function totals(census: Census): Manifest['census'] {
  if (census.level === 'none') return null
  const rows = census.objects.map(object => object.rows)
  return {
    level: census.level,
    at: census.at,
    objects: census.objects.length,
    rows: census.level === 'counts' ? rows.reduce<number>((sum, count) => sum + (count ?? 0), 0) : null,
    artifact: censusName,
    unseen: [...census.unseen],
  }
}

function lastLock(job: Job, begin: Begin, unkept: Delivery['unkept']): string | undefined {
  const startedAt = new Date(begin.startedAt)
  const ends = job.to
    .filter(({ store }) => unkept.get(store.name)?.extra !== 'lock')
    .flatMap(({ lock }) => (lock ? [addSpan(startedAt, lock.for).getTime()] : []))
  return ends.length === 0 ? undefined : new Date(Math.max(...ends)).toISOString()
}

/** Drops warnings, the last first, until the manifest is as small as every manifest is; says how many are missing. */
function fitted(manifest: Manifest): Manifest {
  let kept = manifest.warnings.length
  let fitting = manifest
  while (encodeManifest(fitting).byteLength > manifestLimit) {
    if (kept === 0) {
      throw new Failure({
        what: `the backup of ${manifest.unit} failed`,
        why: `its manifest would be larger than ${manifestLimit} bytes: ${manifest.artifacts.length} artifacts are too many`,
        remedy: 'split the job: fewer databases or paths each',
      })
    }
    kept = Math.floor(kept / 2)
    const missing: Warning = { what: `${manifest.warnings.length - kept} more warnings are left out` }
    fitting = { ...manifest, warnings: [...manifest.warnings.slice(0, kept), missing] }
  }
  return fitting
}

/** The key under which this manifest file stands, in every store. */
export function keyOf(manifest: Manifest, file: Uint8Array): string {
  return manifestKey({
    id: manifest.id,
    job: manifest.job,
    engine: manifest.source.engine,
    kind: manifest.kind,
    encryption: encryptionOf(manifest),
    bytes: manifest.artifacts.reduce((sum, artifact) => sum + artifact.stored.bytes, 0),
    digest: createHash('sha256').update(file).digest('hex').slice(0, 16),
    unit: manifest.unit,
  })
}

function encryptionOf(manifest: Manifest): string {
  if (!manifest.encrypted) return 'none'
  const [artifact] = manifest.artifacts
  return artifact?.stages.at(-1)?.name ?? 'none'
}
