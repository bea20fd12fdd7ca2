import { createHash } from 'node:crypto'
import type { Context } from '../../src/model/context.ts'
import type { ArtifactRecord, Manifest } from '../../src/model/manifest.ts'
import type { ArtifactReader } from '../../src/model/restore.ts'
import type { Artifact, Census, CensusLevel, Source, SourceFacts, Unit } from '../../src/model/source.ts'
import { flow } from '../../src/platform/flow.ts'
import { collect, readerOver } from './reader.ts'

/** A backup in memory, made without an engine: what a session said and yielded. */
export interface Captured {
  readonly manifest: Manifest
  readonly bytes: ReadonlyMap<string, Uint8Array>
  readonly census: Census
  readonly facts: SourceFacts
  readonly reader: ArtifactReader
}

/** Runs a source once, one artifact after the other, and keeps everything in memory. */
export async function capture(
  source: Source,
  ctx: Context,
  options: { readonly unit?: Unit; readonly census?: CensusLevel } = {},
): Promise<Captured> {
  const inspection = await source.inspect(ctx)
  const [first = { name: 'unit' }] = inspection.units
  const unit = options.unit ?? first
  await using session = await source.open(unit, null, options.census ?? 'counts', ctx)
  const bytes = new Map<string, Uint8Array>()
  const records: ArtifactRecord[] = []
  for await (const artifact of session.artifacts()) {
    await using _spooled = artifact.spooled
    const plain = await collect(flow(artifact.open(ctx), artifact.through ?? [], ctx))
    bytes.set(artifact.name, plain)
    records.push(recordOf(artifact, plain, records.length))
  }
  const census = await session.census()
  const facts = await session.finish()
  const { identity, version } = inspection
  const manifest = manifestOf(
    { engine: source.engine, identity, version, unit: unit.name },
    records,
    facts,
    ctx,
  )
  return { manifest, bytes, census, facts, reader: readerOver(bytes, ctx) }
}

/** What a manifest says of an artifact that was stored as it is. */
export function recordOf(
  artifact: Pick<Artifact, 'name' | 'media' | 'role'>,
  plain: Uint8Array,
  ordinal = 0,
): ArtifactRecord {
  const { name, media, role } = artifact
  const whole = { bytes: plain.length, sha256: createHash('sha256').update(plain).digest('hex') }
  const objects = [{ key: `test/${ordinal}`, ...whole }]
  return { name, media, role, stages: [], plain: whole, stored: whole, objects, undo: 'cat' }
}

/** A manifest as the engine would write it. */
export function manifestOf(
  source: { engine: string; identity: string; version: string; unit: string },
  artifacts: ArtifactRecord[],
  facts: SourceFacts,
  ctx: Context,
): Manifest {
  const now = ctx.clock.now().toISOString()
  const { unit, ...from } = source
  return {
    cairn: 1,
    id: '20261121T020000Z-k7f3q9x2',
    job: 'test',
    unit,
    kind: facts.kind,
    tool: 'cairn test',
    host: 'test',
    startedAt: now,
    capturedAt: facts.capturedAt.toISOString(),
    finishedAt: now,
    consistentAt: facts.consistentAt.toISOString(),
    source: { ...from, client: facts.client, options: { ...facts.options } },
    artifacts,
    census: null,
    encrypted: false,
    warnings: [...facts.warnings],
  }
}
