import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { Readable } from 'node:stream'
import * as z from 'zod'
import type { Context } from '../../model/context.ts'
import { Secret } from '../../model/secret.ts'
import type { Program } from '../../model/step.ts'
import { flow } from '../../platform/flow.ts'
import type { SecretSource } from '../../platform/secret-source.ts'
import { abortable, type Daemon, type RcloneProgram, startDaemon } from './daemon.ts'
import { inherited, settingsAsEnvironment, settingsIn } from './environment.ts'
import { isRefused } from './failure.ts'
import { bucketOf, parseRemote, secretsOf } from './remote.ts'

/** What `operations/fsinfo` says of a remote (https://rclone.org/rc/#operations-fsinfo). */
export interface Features {
  /** Objects appear only when they are whole. */
  readonly bucketBased: boolean
  readonly canMove: boolean
  readonly canStream: boolean
  readonly hasFolders: boolean
}

/** A daemon and the remote that it is used for. */
export interface Use {
  readonly daemon: Daemon
  /** The remote, as it was configured, or its bucket alone. */
  readonly remote: string
  /** The name under which the daemon knows that. */
  readonly fs: string
  /** The folder in it under which everything is; '' for none. */
  readonly below: string
  readonly features: Features
  readonly program: RcloneProgram
}

/** How a remote is reached. */
export interface Reach {
  readonly remote: string
  readonly config?: string | undefined
  readonly options?: Readonly<Record<string, SecretSource>> | undefined
  /** Settings that rclone wants obscured, as they are. */
  readonly clear?: Readonly<Record<string, SecretSource>> | undefined
  readonly environment?: Readonly<Record<string, SecretSource>> | undefined
  readonly program: string
  /** How often rclone itself tries a request, unless that is set; absent: as it thinks right. */
  readonly tries?: number | undefined
}

/** One daemon at a time, started when it is first needed, and anew when it has died. */
export class Uses {
  /** Null until the remote was first reached. */
  features: Features | null = null
  readonly #reach: Reach
  #use: Promise<Use> | null = null

  constructor(reach: Reach) {
    this.#reach = reach
  }

  async open(ctx: Context): Promise<Use> {
    ctx.signal.throwIfAborted()
    const before = this.#use
    const use = await before?.catch(() => null)
    // Without its folder nobody can reach it: the run that started it is over.
    if (use && (!use.daemon.alive() || !existsSync(use.daemon.dir))) {
      if (this.#use === before) this.#use = null
      await use.daemon.stop()
    }
    const opening = this.#use ?? this.#start(ctx)
    return abortable(opening, ctx.signal)
  }

  /** Ends the daemon, if there is one. */
  async close(): Promise<void> {
    const opening = this.#use
    this.#use = null
    const use = await opening?.catch(() => null)
    await use?.daemon.stop()
  }

  #start(ctx: Context): Promise<Use> {
    // Others may wait for it too: one of them being aborted must not end it.
    const opening = reachRemote(this.#reach, { ...ctx, signal: new AbortController().signal })
    this.#use = opening
    opening.then(
      use => {
        this.features = use.features
      },
      () => {
        if (this.#use === opening) this.#use = null
      },
    )
    return opening
  }
}

/** Starts a daemon and has it make contact. Throws when either fails; nothing is left behind then. */
async function reachRemote(reach: Reach, ctx: Context): Promise<Use> {
  const { remote, config, options = {}, clear = {}, environment = {} } = reach
  // An alias hides the remote's own spelling: neither requests nor arguments need to hold it.
  const alias = `cairn${randomBytes(4).toString('hex')}`
  const bucket = bucketOf(remote)
  const program: RcloneProgram = {
    program: reach.program,
    secrets: secretsOf(parseRemote(remote)),
    env: {
      ...(reach.tries === undefined ? {} : { RCLONE_LOW_LEVEL_RETRIES: String(reach.tries) }),
      ...inherited(process.env),
      ...(await asVariables(environment)),
      ...(config !== undefined && { RCLONE_CONFIG: config }),
      ...(await settingsAsEnvironment(remote, options)),
      ...(await settingsAsEnvironment(remote, await obscured(reach.program, clear, ctx))),
      ...asAlias(alias, asFolder(remote)),
      ...(bucket ? asAlias(`${alias}b`, bucket.remote) : {}),
    },
  }
  const daemon = await startDaemon(program, ctx)
  try {
    return { daemon, program, ...(await makeContact(daemon, alias, remote, ctx)) }
  } catch (error) {
    await daemon.stop()
    throw error
  }
}

/**
 * Azure refuses to tell those who may only write whether the remote's folder is an object, which rclone asks; for a bucket alone
 * it does not ask.
 */
async function makeContact(
  daemon: Daemon,
  alias: string,
  remote: string,
  ctx: Context,
): Promise<Pick<Use, 'remote' | 'fs' | 'below' | 'features'>> {
  const reach = async (fs: string): Promise<Features> =>
    featuresIn(await daemon.call('operations/fsinfo', { fs }, AbortSignal.timeout(ctx.stallMs)))
  try {
    return { remote, fs: `${alias}:`, below: '', features: await reach(`${alias}:`) }
  } catch (error) {
    const bucket = bucketOf(remote)
    if (!bucket || !isRefused(error)) throw error
    const features = await reach(`${alias}b:`)
    if (!features.bucketBased) throw error
    return { ...bucket, fs: `${alias}b:`, features }
  }
}

async function asVariables(sources: Readonly<Record<string, SecretSource>>): Promise<Record<string, Secret>> {
  const read = Object.entries(sources).map(async ([name, source]) => [name, await source.read()] as const)
  return Object.fromEntries(await Promise.all(read))
}

function asAlias(name: string, remote: string): Record<string, string | Secret> {
  const variable = `RCLONE_CONFIG_${name.toUpperCase()}`
  return { [`${variable}_TYPE`]: 'alias', [`${variable}_REMOTE`]: new Secret(remote) }
}

/** The same settings as rclone wants them: it takes no password that is not written in its own way. */
async function obscured(
  program: string,
  clear: Readonly<Record<string, SecretSource>>,
  ctx: Context,
): Promise<Record<string, SecretSource>> {
  const written: Record<string, SecretSource> = {}
  for (const [key, source] of Object.entries(clear)) {
    const input = [Buffer.from((await source.read()).reveal())]
    const chunks: Uint8Array[] = []
    const step: Program = { program, args: ['obscure', '-'] }
    for await (const chunk of flow(Readable.from(input), [step], ctx)) chunks.push(chunk)
    const secret = new Secret(Buffer.concat(chunks).toString('utf8').trim())
    written[key] = { ...source, read: async () => secret }
  }
  return written
}

/** A path that ends so is not asked for as if it were an object: who may only write would be told that it is one. */
function asFolder(remote: string): string {
  return /[^:/]$/.test(remote) && parseRemote(remote).path !== '' ? `${remote}/` : remote
}

function featuresIn(info: Readonly<Record<string, unknown>>): Features {
  const features = z.record(z.string(), z.unknown()).parse(info.Features)
  return {
    bucketBased: features.BucketBased === true,
    canMove: features.Move === true,
    canStream: features.PutStream === true,
    hasFolders: features.CanHaveEmptyDirectories === true,
  }
}

/** A name as the daemon is to be told it. */
export function placeOf({ below }: Use, name: string): string {
  return [below, name].filter(Boolean).join('/')
}

/** What is configured for a remote: in the file, and over it in the environment. */
export async function settings(use: Use, name: string, signal: AbortSignal): Promise<Record<string, string>> {
  const none = {}
  const file = name.startsWith(':')
    ? none
    : await use.daemon.call('config/get', { name }, signal).catch(() => none)
  const all = Object.entries({ ...file, ...settingsIn(use.program.env, name) })
  return Object.fromEntries(all.map(([key, value]) => [key, String(value)]))
}
