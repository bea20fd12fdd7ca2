import { createHash } from 'node:crypto'
import type { Context } from '../model/context.ts'
import { asFailure, damage, exitCode, Failure, wrongKey } from '../model/failure.ts'
import type { ArtifactRecord, StoredPart } from '../model/manifest.ts'
import type { ArtifactReader } from '../model/restore.ts'
import { type Bytes, isProgram, type Program, type Stage, type Step, type Transform } from '../model/step.ts'
import { NotFound, type Store } from '../model/store.ts'
import { flow, pour } from '../platform/flow.ts'
import { isBrokenPipe } from '../platform/program.ts'
import { isUnreadable } from './first-readable.ts'
import { progress } from './progress.ts'

/** The stages that an artifact went through, ready to be undone. Throws a Failure with exit 12 when a key is missing. */
export type StagesOf = (record: ArtifactRecord) => readonly Stage[]

/**
 * Reads artifacts from one store. What is wrong is told apart as people need it: stored bytes that are not the ones
 * that were written are damage (exit 20); right bytes that do not decode are a matter of the key (exit 12); a store
 * that does not answer is neither.
 */
export function artifactReader(store: Store, stagesOf: StagesOf, ctx: Context): ArtifactReader {
  return {
    async *open(record) {
      const stored = storedBytes(record, store, ctx)
      try {
        yield* flow(stored, decodeSteps(stagesOf(record)), ctx)
      } catch (error) {
        throw await explain(error, record, store, ctx)
      }
    },
    async into(record, sink, framing, through = []) {
      const stored = storedBytes(record, store, ctx)
      try {
        await pour(stored, [...decodeSteps(stagesOf(record)), ...through], sink, ctx, framing)
      } catch (error) {
        throw await explain(error, record, store, ctx, !stagesOf(record).some(stage => stage.encrypts))
      }
    },
  }
}

/** The stored bytes of an artifact, object after object. Ends only when each had its size and its SHA-256; else throws damage. */
export async function* storedBytes(
  record: ArtifactRecord,
  store: Store,
  ctx: Context,
): AsyncGenerator<Uint8Array, void, undefined> {
  let read = 0
  const reading = progress(record.name, ctx, () => ({ read, stored: {} }))
  for (const part of record.objects) {
    for await (const chunk of checkedPart(record, part, store, ctx)) {
      read += chunk.byteLength
      reading.report()
      yield chunk
    }
  }
  reading.done()
}

/** One object of an artifact, checked in the same way. */
export async function* checkedPart(
  record: ArtifactRecord,
  part: StoredPart,
  store: Store,
  ctx: Context,
): AsyncGenerator<Uint8Array, void, undefined> {
  const what = `${record.name} is damaged in store ${store.name}`
  const hash = createHash('sha256')
  let bytes = 0
  try {
    for await (const chunk of store.get(part.key, part.version ? { version: part.version } : {}, ctx)) {
      bytes += chunk.byteLength
      if (bytes > part.bytes)
        throw damage(what, `${part.key} is longer than the ${part.bytes} bytes that were written`)
      hash.update(chunk)
      yield chunk
    }
  } catch (error) {
    if (error instanceof NotFound) throw damage(what, `${part.key} is missing`, 'restore from another store')
    throw asFailure(error, `cannot read ${part.key} from store ${store.name}`)
  }
  if (bytes < part.bytes)
    throw damage(what, `${part.key} has ${bytes} of the ${part.bytes} bytes that were written`)
  if (part.sha256 !== null && hash.digest('hex') !== part.sha256)
    throw damage(what, `the SHA-256 of ${part.key} is not the one that was written`)
}

/** A stage could not make sense of what it read. */
class DecodeError extends Error {
  override readonly name = 'DecodeError'
}

/** The steps that undo the stages, last one first, each naming itself when it fails. */
function decodeSteps(stages: readonly Stage[]): Step[] {
  return stages.toReversed().map(stage => {
    const step = stage.decode()
    return isProgram(step) ? markedProgram(step) : markedTransform(step)
  })
}

function markedProgram(program: Program): Program {
  return {
    ...program,
    judge: (exit, stderrTail) => {
      const verdict = program.judge
        ? program.judge(exit, stderrTail)
        : exit.code === 0
          ? null
          : new Error(stderrTail.trim() || `exit code ${exit.code}, signal ${exit.signal}`)
      return verdict && new DecodeError(`${program.program}: ${verdict.message}`, { cause: verdict })
    },
  }
}

function markedTransform(transform: Transform): Transform {
  return {
    name: transform.name,
    async *run(input, ctx) {
      let ours: { error: unknown } | null = null
      async function* watched(): Bytes {
        try {
          yield* input
        } catch (error) {
          ours = { error }
          throw error
        }
      }
      try {
        yield* transform.run(watched(), ctx)
      } catch (error) {
        // The input's own failure stays what it is, however the transform wraps it.
        if (ours) throw (ours as { error: unknown }).error
        if (error instanceof DecodeError) throw error
        throw new DecodeError(`${transform.name}: ${(error as Error).message}`, { cause: error })
      }
    },
  }
}

/**
 * Why reading failed. When a stage gave up, the stored digest decides: the object is read again to learn it. So it is
 * when the program that took the bytes gave up and nothing had authenticated them (`suspicious`): it may have been fed garbage.
 */
async function explain(
  error: unknown,
  record: ArtifactRecord,
  store: Store,
  ctx: Context,
  suspicious = false,
): Promise<unknown> {
  if (ctx.signal.aborted) return ctx.signal.reason
  const decode = error instanceof DecodeError ? error : error instanceof Failure ? causeOf(error) : null
  const gaveUp = decode !== null && !isBrokenPipe(decode)
  if (!gaveUp && !(suspicious && isAboutContent(error))) return error
  try {
    for await (const _ of storedBytes(record, store, ctx));
  } catch (found) {
    return found
  }
  if (!gaveUp) return error
  if (decode.cause instanceof Failure && decode.cause.exit === exitCode.wrongKey) return decode.cause
  if (record.stored.sha256 === null)
    return damage(`${record.name} is damaged in store ${store.name}`, decode.message, unchecked)
  return wrongKey(
    `cannot decode ${record.name}`,
    decode.message,
    'the stored bytes are the ones that were written, so the key or passphrase is not the right one',
  )
}

const unchecked = 'another tool wrote it, so that nobody knows what its bytes were: try an older one'

/** Whatever is not about the copy already may have failed because of what it was fed. */
function isAboutContent(error: unknown): boolean {
  return !(error instanceof Failure && isUnreadable(error))
}

function causeOf(failure: Failure): DecodeError | null {
  return failure.cause instanceof DecodeError ? failure.cause : null
}
