import type { Context } from '../model/context.ts'
import { Failure } from '../model/failure.ts'
import type { Bytes, Stage, Step } from '../model/step.ts'
import { flow } from '../platform/flow.ts'
import { detect, type Format, headBytes, peek } from './detect.ts'

/** More layers than anybody makes; a file that goes on for ever is none of a backup tool's. */
const mostLayers = 6

/** What undoes a format, by the first bytes of what is in it; null for data itself. Throws a Failure when a key is missing. */
export type DecoderOf = (format: Format, head: Buffer) => Step | null

/**
 * For what other tools have written: `decode` undoes whatever the first bytes say, layer by layer (gpg around gzip around
 * tar), until they say data. Holds a head of 512 bytes for each layer. A stream whose first bytes say nothing
 * is data too, but for the outermost: that one throws a Failure. Its `encode` throws.
 */
export function detectedStage(decoderOf: DecoderOf): Stage {
  return {
    name: 'detect',
    suffix: '',
    facts: {},
    encrypts: false,
    encode: () => {
      throw new Failure({ what: 'cannot encode', why: 'what another tool wrote is only read' })
    },
    decode: () => ({ name: 'detect', run: (input, ctx) => peeled(input, decoderOf, ctx, 0) }),
    undo: '',
  }
}

async function* peeled(
  input: Bytes,
  decoderOf: DecoderOf,
  ctx: Context,
  layer: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { head, whole } = await peek(input, headBytes)
  try {
    const format = detect(head)
    if (format === null && layer === 0) throw unknown('its first bytes are of no format that is known')
    const step = format === null ? null : decoderOf(format, head)
    if (step === null) return yield* whole
    if (layer === mostLayers) throw unknown(`it has more than ${mostLayers} layers`)
    yield* peeled(flow(whole, [step], ctx), decoderOf, ctx, layer + 1)
  } finally {
    await whole.return()
  }
}

function unknown(why: string): Failure {
  return new Failure({ what: 'cannot tell what it is', why })
}
