import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Context } from '../model/context.ts'
import { type Failure, usage } from '../model/failure.ts'
import type { Secret } from '../model/secret.ts'
import type { Program } from '../model/step.ts'
import { flow } from '../platform/flow.ts'
import { describeExit } from '../platform/program.ts'

/** A public key that can be encrypted for. */
export interface Recipient {
  readonly fingerprint: string
  /** From when on it cannot; null: never. */
  readonly expires: Date | null
}

/**
 * Looks into a public key that can be encrypted for. Throws a Failure with exit 2 for anything else: no key or
 * several, a secret key, one that only signs, has expired or was revoked, one with several keys to encrypt for.
 */
export async function recipientOf(key: Secret, ctx: Context): Promise<Recipient> {
  const records = (await listing(key, ctx)).split('\n').map(line => line.split(':'))
  const fault = faultOf(records, ctx.clock.now())
  if (fault) throw refused(fault)
  const fingerprint = records.find(([type]) => type === 'fpr')?.[9] ?? ''
  return { fingerprint, expires: expiryOf(records, ctx.clock.now()) }
}

/** The key, and what it has to encrypt for, must both be valid. */
function expiryOf(records: readonly string[][], now: Date): Date | null {
  const [key = []] = records.filter(([type]) => type === 'pub')
  const times = [key, ...usableIn(records, now)].map(secondsOf).filter(seconds => seconds > 0)
  return times.length === 0 ? null : new Date(Math.min(...times) * 1000)
}

/** What it has to encrypt for, valid or not. */
function forEncryption(records: readonly string[][]): string[][] {
  return records.filter(record => /^(pub|sub)$/.test(record[0] ?? '') && record[11]?.includes('e'))
}

function usableIn(records: readonly string[][], now: Date): string[][] {
  return forEncryption(records).filter(record => !/[ri]/.test(record[1] ?? '') && !isExpired(record, now))
}

/** When a record's key expires, in seconds; 0: never. */
function secondsOf(record: readonly string[]): number {
  return Number(record[6] ?? '')
}

/** What `gpg --with-colons` tells of a key, a record a line (doc/DETAILS of GnuPG). gpg wants a home for it, and writes there. */
async function listing(key: Secret, ctx: Context): Promise<string> {
  const home = await mkdtemp(join(ctx.dir, 'gpg-'))
  const own = ['--no-options', '--homedir', home, '--batch', '--no-tty', '--quiet', '--no-autostart']
  const program: Program = {
    program: 'gpg',
    args: [...own, '--with-colons', '--show-keys', '/dev/fd/3'],
    secretFds: [key],
    judge: (exit, stderrTail) => (exit.code === 0 ? null : refused(describeExit(exit, stderrTail))),
  }
  const chunks: Uint8Array[] = []
  try {
    for await (const chunk of flow(program, [], ctx)) chunks.push(chunk)
  } finally {
    await rm(home, { recursive: true, force: true })
  }
  return Buffer.concat(chunks).toString()
}

/** Why nothing can be encrypted for a key, or null. Fields: 0 type, 1 validity, 6 expiry, 11 capabilities. */
function faultOf(records: readonly string[][], now: Date): string | null {
  const keys = records.filter(([type]) => type === 'pub' || type === 'sec')
  const [first = []] = keys
  if (keys.length === 0) return 'it is not a public key'
  if (keys.length > 1) return `it holds ${keys.length} keys: give each one by itself`
  if (first[0] === 'sec') return 'it is a secret key: export the public one (gpg --armor --export)'
  if (first[1] === 'r') return 'it was revoked'
  if (isExpired(first, now)) return 'it has expired'
  const usable = usableIn(records, now)
  if (forEncryption(records).length === 0) return 'it can only sign'
  if (usable.length === 0) return 'what it has to encrypt for has expired or was revoked'
  if (usable.length > 1)
    return `it has ${usable.length} keys to encrypt for: export one of them (gpg --export KEYID!)`
  return null
}

/** gpg does not always say so of a subkey. */
function isExpired(record: readonly string[], now: Date): boolean {
  const seconds = secondsOf(record)
  return record[1] === 'e' || (seconds > 0 && seconds * 1000 < now.getTime())
}

function refused(why: string): Failure {
  return usage(
    'cannot encrypt for a key of the gpg stage',
    why,
    'gpg --armor --export writes one that can be used',
  )
}
