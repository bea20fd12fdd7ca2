import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import * as z from 'zod'
import type { Context } from '../model/context.ts'
import { Failure, usage, wrongKey } from '../model/failure.ts'
import type { Bytes, Program, Stage } from '../model/step.ts'
import { flow } from '../platform/flow.ts'
import { detect, headBytes, peek } from './detect.ts'

export const AespipeOptions = z.strictObject({
  keyFile: z
    .string()
    .min(1)
    .describe('the file that holds the key: a line of at least 20 characters, or 64 or 65 of them'),
  unauthenticated: z
    .literal(true, {
      error: 'say "unauthenticated: true": whoever can write to the store can change what aespipe encrypted',
    })
    .describe('must be true: you know that a change of what is encrypted may not show'),
})
export type AespipeOptions = z.infer<typeof AespipeOptions>

const shortestLine = 20
/** From so many lines on, aespipe takes each of them for a key, and a last one if it is there; else the first only. */
const manyKeys = 64

/**
 * aespipe: AES-256 in CBC mode, for whoever must exchange files with a tool that uses it. Nothing authenticates what it
 * encrypts. It pads with NULs, which only gzip reads past: what goes in must be gzip's. That also tells when a
 * key does not fit, because aespipe itself decrypts with any.
 *
 * Throws a Failure with exit 2 for a key file that aespipe would not take as it is meant.
 */
export async function aespipeWriter({ keyFile }: Pick<AespipeOptions, 'keyFile'>): Promise<Stage> {
  const path = resolve(keyFile)
  await checkKeyFile(path)
  return {
    ...aespipeReader([path]),
    warning: {
      what: 'aespipe encrypts without authenticating',
      why: 'who can write to the store can change the backup',
      remedy: 'use age or gpg, unless another tool must read it',
    },
    encode: () => aespipe(path, []),
  }
}

/** The same for reading, with whichever of the key files fits. Its `encode` throws. */
export function aespipeReader(keyFiles: readonly string[]): Stage {
  return {
    name: 'aespipe',
    suffix: '.aes',
    facts: { cipher: 'AES256', iterations: 10_000, authenticated: false },
    encrypts: true,
    encode: () => {
      throw usage('cannot encrypt with aespipe', 'it was opened for reading')
    },
    decode: () => {
      if (keyFiles.length === 0) throw doesNotFit('no key file is configured')
      return { name: 'aespipe', run: (input, ctx) => decrypt(input, keyFiles, ctx) }
    },
    undo: 'aespipe -d -e AES256 -C 10000 -P KEY',
  }
}

function aespipe(keyFile: string, direction: readonly string[]): Program {
  const args = [...direction, '-e', 'AES256', '-C', '10000', '-P', resolve(keyFile)]
  return { program: 'aespipe', args }
}

async function* decrypt(input: Bytes, keyFiles: readonly string[], ctx: Context) {
  const { head, whole } = await peek(input, headBytes)
  try {
    if (head.length === 0) throw new Failure({ what: 'aespipe failed', why: 'there is nothing to decrypt' })
    const keyFile = await theOne(head, keyFiles, ctx)
    const plain = await peek(flow(whole, [aespipe(keyFile, ['-d'])], ctx), headBytes)
    if (detect(plain.head) === 'gzip') return yield* plain.whole
    await plain.whole.return()
    throw doesNotFit('what aespipe makes of it is not in gzip format')
  } finally {
    await whole.return()
  }
}

/** Of several key files, the one that fits. A start of aespipe takes most of a second, so one alone is not tried. */
async function theOne(head: Buffer, keyFiles: readonly string[], ctx: Context): Promise<string> {
  const [only = '', ...others] = keyFiles
  if (others.length === 0) return only
  async function* beginning() {
    yield head.subarray(0, headBytes)
  }
  for (const keyFile of keyFiles) {
    const plain = await peek(flow(beginning(), [aespipe(keyFile, ['-d'])], ctx), headBytes)
    await plain.whole.return()
    if (detect(plain.head) === 'gzip') return keyFile
  }
  throw doesNotFit('none of the key files makes gzip format of it')
}

function doesNotFit(why: string): Failure {
  return wrongKey('cannot decrypt', why, 'give the key file that the backup was made with')
}

async function checkKeyFile(path: string): Promise<void> {
  const what = `cannot use the key file ${path}`
  const text = await readFile(path, 'latin1').catch((error: Error) => {
    throw usage(what, error.message, 'check the path and its permissions')
  })
  const lines = text.replace(/\n$/, '').split('\n')
  const used = lines.length >= manyKeys ? lines.slice(0, manyKeys + 1) : lines.slice(0, 1)
  if (used.some(line => line.length < shortestLine))
    throw usage(
      what,
      `a line of it has less than ${shortestLine} characters`,
      'head -c 48 /dev/urandom | base64',
    )
}
