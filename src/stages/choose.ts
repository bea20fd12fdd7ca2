import type { Context } from '../model/context.ts'
import { type Failure, usage } from '../model/failure.ts'
import type { ArtifactRecord } from '../model/manifest.ts'
import type { Stage } from '../model/step.ts'
import { aespipeReader, aespipeWriter } from './aespipe.ts'
import { AgeOptions, agePassphraseStage, ageStage } from './age.ts'
import { type DecoderOf, detectedStage } from './detected.ts'
import { gpgReader, gpgWriter } from './gpg.ts'
import { GzipOptions, gzipStage } from './gzip.ts'
import { gpgKeys, keysFrom, lockOf, readAll } from './keys.ts'
import type { Compression, Encryption } from './options.ts'
import { ZstdOptions, zstdStage } from './zstd.ts'

/**
 * The stages that a job's bytes pass through, compression first. Throws a Failure with exit 2, before anything is
 * dumped, for keys that cannot be encrypted for, and for stages that do not go together.
 */
export async function writingStages(
  chosen: { readonly compression?: Compression | undefined; readonly encryption?: Encryption | undefined },
  ctx: Context,
): Promise<Stage[]> {
  const encryption = chosen.encryption ?? 'none'
  const pads = encryption !== 'none' && encryption.aespipe !== undefined
  const usual: Compression = pads ? { gzip: GzipOptions.parse({}) } : { zstd: ZstdOptions.parse({}) }
  const compression = compressing(chosen.compression ?? usual)
  if (pads && compression[0]?.name !== 'gzip') {
    const why = 'it fills up its last block with NULs, which only gzip reads past'
    throw usage('cannot encrypt with aespipe', why, 'set compression: { gzip: {} }, or leave it out')
  }
  return [...compression, ...(await encrypting(encryption, ctx))]
}

function compressing(compression: Compression): Stage[] {
  if (compression === 'none') return []
  return [compression.gzip ? gzipStage(compression.gzip) : zstdStage(compression.zstd)]
}

async function encrypting(encryption: Encryption, ctx: Context): Promise<Stage[]> {
  if (encryption === 'none') return []
  const { age, gpg, aespipe } = encryption
  if (gpg) return [await gpgWriter(gpg, ctx)]
  if (aespipe) return [await aespipeWriter(aespipe)]
  if (age?.passphrase) return [agePassphraseStage([await age.passphrase.read()])]
  return age ? [await ageStage(age, { reading: false })] : []
}

/** What can be read with the keys at hand. */
export interface Reading {
  /** The stages of an artifact, for `decode`. Throws a Failure: exit 2 for a stage that is not known, 12 for a key that is missing. */
  stagesOf(record: Pick<ArtifactRecord, 'name' | 'stages'>): readonly Stage[]
  /** Whether there is a key for each of its stages. */
  canDecode(record: Pick<ArtifactRecord, 'name' | 'stages'>): boolean
  /** The file that holds the key for an artifact, where there is one: for the one-liner of `show`. */
  keyFileOf(record: ArtifactRecord): string | null
  /** The first file that holds a key. */
  readonly keyFile: string | null
  /** Why keys of the configuration could not be read: nothing that needs none is the worse for it. */
  readonly unread: readonly Failure[]
}

/**
 * The stages for reading, with every key of the configuration, and that of a file: which of them fits is found out when
 * reading. Throws a Failure for a file that cannot be read, and for keys that cannot be used; a key of the configuration that
 * cannot be read is missed where it is needed.
 */
export async function readingStages(
  identity: string | undefined,
  configured: readonly (Encryption | undefined)[],
): Promise<Reading> {
  const keys = await keysFrom(identity, configured)
  const age = await ageStage(
    { ...AgeOptions.parse({}), identity: keys.of['age identity'] },
    { reading: true },
  )
  const agePassphrase = agePassphraseStage(await readAll(keys.of['age passphrase']))
  const gpg = gpgReader(await gpgKeys(keys))
  const aespipe = aespipeReader(keys.of['aespipe key file'].flatMap(({ file }) => file ?? []))
  const decoderOf: DecoderOf = (format, head) => {
    if (format === 'gzip') return gzipStage().decode()
    if (format === 'zstd') return zstdStage().decode()
    if (format === 'bzip2' || format === 'xz') return { program: format, args: ['-d', '-c'] }
    if (format === 'age' && head.includes('\n-> scrypt ')) return agePassphrase.decode()
    if (format === 'age' || format === 'armored age') return age.decode()
    return format === 'OpenPGP' || format === 'armored OpenPGP' ? gpg.decode() : null
  }
  const detected = detectedStage(decoderOf)
  const stageOf = (entry: Entry): Stage | null => {
    const lock = lockOf(entry)
    const missed = keys.unread.find(each => each.lock === lock)
    if (lock && missed && keys.of[lock].length === 0 && identity === undefined) throw missed.failure
    if (entry.name === 'detect') return detected
    if (entry.name === 'zstd') return zstdStage()
    if (entry.name === 'gzip') return gzipStage()
    if (entry.name === 'gpg') return gpg
    if (entry.name === 'aespipe') return aespipe
    if (entry.name !== 'age') return null
    if (entry.passphrase === true) return agePassphrase
    if (keys.of['age identity'].length === 0 && keys.notAnIdentity) throw keys.notAnIdentity
    return age
  }
  const hasKey = (entry: Entry): boolean => {
    const lock = lockOf(entry)
    return (
      stageOfName.has(entry.name) && (lock === null || identity !== undefined || keys.of[lock].length > 0)
    )
  }
  const fileFor = (entry: Entry): string | null => {
    const lock = lockOf(entry)
    return (lock && keys.of[lock].find(source => source.file !== undefined)?.file) ?? null
  }
  return {
    stagesOf: record =>
      record.stages.map(entry => {
        const stage = stageOf(entry)
        if (stage) return stage
        const why = `this Cairn does not know the stage "${entry.name}"`
        throw usage(`cannot read ${record.name}`, why, 'use a newer Cairn')
      }),
    canDecode: record => record.stages.every(hasKey),
    keyFileOf: record => record.stages.map(fileFor).find(file => file !== null) ?? null,
    unread: keys.unread.map(({ failure }) => failure),
    keyFile:
      Object.values(keys.of)
        .flat()
        .find(source => source.file !== undefined)?.file ?? null,
  }
}

/** A stage as a manifest names it. */
type Entry = ArtifactRecord['stages'][number]

const stageOfName: ReadonlySet<string> = new Set(['zstd', 'gzip', 'age', 'gpg', 'aespipe', 'detect'])
