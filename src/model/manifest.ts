import * as z from 'zod'

/**
 * The record of a backup; its presence in a store is the statement that the store holds all of it. Version 1 of
 * the format, as docs/format.md describes it. Fields may be added to it; a reader ignores those it does not know.
 */
const digest = z.string().regex(/^[0-9a-f]{64}$/)
const bytes = z.int().nonnegative()
const instant = z.iso.datetime({ offset: true })

const StoredPart = z.object({
  key: z.string().min(1),
  bytes,
  sha256: digest,
  /** Where the same key is written again and again, in a store that keeps versions: this one. */
  version: z.string().optional(),
})

const ArtifactRecord = z.object({
  name: z.string(),
  media: z.string(),
  role: z.enum(['data', 'globals', 'census', 'index']),
  /** In the order in which they were applied. */
  stages: z.array(z.looseObject({ name: z.string() })),
  /** Null where the plain bytes did not pass through us. */
  plain: z.object({ bytes: bytes.nullable(), sha256: digest.nullable() }),
  /** The objects' bytes one after another. */
  stored: z.object({ bytes, sha256: digest }),
  objects: z.array(StoredPart).min(1),
  /** The shell commands that turn the stored bytes into the plain ones, `KEY` standing for the key file. */
  undo: z.string(),
})

const Warning = z.object({ what: z.string(), path: z.string().optional() })

const Chain = z.object({ parent: z.string(), full: z.string(), depth: z.int().positive() })

const Kind = z.enum(['logical', 'full', 'incremental', 'files', 'foreign'])

export const Manifest = z.object({
  cairn: z.literal(1),
  id: z.string(),
  job: z.string(),
  unit: z.string(),
  kind: Kind,
  tool: z.string(),
  host: z.string(),
  startedAt: instant,
  capturedAt: instant,
  finishedAt: instant,
  consistentAt: instant,
  source: z.object({
    engine: z.string(),
    identity: z.string(),
    version: z.string(),
    client: z.string(),
    options: z.record(z.string(), z.unknown()),
  }),
  chain: Chain.optional(),
  artifacts: z.array(ArtifactRecord).min(1),
  census: z
    .object({
      level: z.enum(['objects', 'counts']),
      at: z.enum(['snapshot', 'near']),
      objects: z.int().nonnegative(),
      rows: z.int().nonnegative().nullable(),
      /** The artifact that holds the details. */
      artifact: z.string(),
      unseen: z.array(z.string()),
    })
    .nullable(),
  encrypted: z.boolean(),
  /** Why parts of the unit are not in it, one line each; absent where it is complete. */
  missing: z.array(z.string()).min(1).optional(),
  lockedUntil: instant.optional(),
  warnings: z.array(Warning),
})

/** Its digest is null where nobody took it: of what another tool has written. No manifest in a store is without. */
export type StoredPart = Omit<z.infer<typeof StoredPart>, 'sha256'> & { sha256: string | null }
export type ArtifactRecord = Omit<z.infer<typeof ArtifactRecord>, 'stored' | 'objects'> & {
  stored: { bytes: number; sha256: string | null }
  objects: StoredPart[]
}
export type Manifest = Omit<z.infer<typeof Manifest>, 'artifacts'> & { artifacts: ArtifactRecord[] }
export type Warning = z.infer<typeof Warning>
export type Chain = z.infer<typeof Chain>
export type Kind = z.infer<typeof Kind>
export type Role = ArtifactRecord['role']

/** The artifact that holds the census in full. */
export const censusName = 'census.json'

/** No manifest is larger: what grows with the source (census, file index) is an artifact of its own. */
export const manifestLimit = 64 * 1024

/** The bytes of a manifest, the same in every store. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  return Buffer.from(`${JSON.stringify(manifest, null, 1)}\n`)
}

/** A manifest is as it should be, and of a later Cairn. */
export class NewerFormat extends Error {}

/** Throws an Error that says what is wrong with it, and NewerFormat where nothing is. */
export function decodeManifest(file: Uint8Array): Manifest {
  let parsed: unknown
  try {
    parsed = JSON.parse(Buffer.from(file).toString('utf8'))
  } catch {
    throw new Error('it is not JSON')
  }
  const version = (parsed as { cairn?: unknown } | null)?.cairn
  if (typeof version === 'number' && version > 1) {
    throw new NewerFormat(`its format is version ${version}, and this Cairn reads version 1`)
  }
  const result = Manifest.safeParse(parsed)
  if (!result.success) {
    const [issue] = result.error.issues
    throw new Error(`${issue?.path.join('.') || 'it'}: ${issue?.message ?? 'not a manifest'}`)
  }
  return result.data
}
