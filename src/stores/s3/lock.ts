import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import type { Lock, PutOptions } from '../../model/store.ts'
import type { Connection } from './client.ts'
import { isAbsent, isRefused, isUnknownThere, troubleOf } from './error.ts'

/** An object that was just written. */
export interface Written {
  readonly connection: Connection
  readonly store: string
  readonly key: string
  readonly version: string | undefined
}

/** The parameters of the creating request. */
export function lockHeaders(lock: Lock | undefined) {
  if (!lock) return {}
  return { ObjectLockMode: modeOf(lock), ObjectLockRetainUntilDate: lock.until }
}

/** `a=b&c=d`, URL-encoded: the form that PutObject and CreateMultipartUpload want. */
export function tagHeader(tags: PutOptions['tags']) {
  const pairs = Object.entries(tags ?? {})
  if (pairs.length === 0) return {}
  return { Tagging: pairs.map(pair => pair.map(encodeURIComponent).join('=')).join('&') }
}

function modeOf(lock: Lock): 'GOVERNANCE' | 'COMPLIANCE' {
  return lock.mode === 'compliance' ? 'COMPLIANCE' : 'GOVERNANCE'
}

/** The server keeps the lock or the tags of an object not; `ever`: of no object. */
export class Dropped extends Failure {
  readonly extra: 'lock' | 'tags'
  readonly ever: boolean

  constructor(failure: { what: string; why: string; remedy: string }, extra: 'lock' | 'tags', ever: boolean) {
    super(failure)
    this.extra = extra
    this.ever = ever
  }
}

/** One thing that was asked for beside the bytes. */
interface Extra {
  readonly name: 'lock' | 'tags'
  isThere(): Promise<boolean>
  set(): Promise<unknown>
}

/**
 * Sees to it that the object has the lock and the tags that it was written with: there are servers that drop them
 * without a word (Ceph 16, of multipart uploads). What is missing is set now; what can be neither read nor set is a
 * warning. Throws Dropped when it is missing for certain.
 */
export async function ensureExtras(options: PutOptions, to: Written, ctx: Context): Promise<void> {
  if (options.lock) await ensure(lockOf(options.lock, to, ctx), to, ctx)
  if (Object.keys(options.tags ?? {}).length > 0) await ensure(tagsOf(options.tags ?? {}, to, ctx), to, ctx)
}

async function ensure(extra: Extra, to: Written, ctx: Context): Promise<void> {
  const before = await readable(extra, to)
  if (before === true) return
  try {
    await extra.set()
  } catch (error) {
    if (before === null && isRefused(error)) return unchecked(extra, to, ctx)
    ctx.signal.throwIfAborted()
    throw missing(extra, to, error)
  }
  // The server has taken the order itself; without the right to read there is no more to learn.
  if (before !== null && !(await extra.isThere())) throw missing(extra, to)
}

/** Null: the credentials may not read it. */
async function readable(extra: Extra, to: Written): Promise<boolean | null> {
  try {
    return await extra.isThere()
  } catch (error) {
    if (isRefused(error)) return null
    // It answered with the object itself: setting it now would overwrite the object with the request.
    if (troubleOf(error).status === 200) throw missing(extra, to, foreign)
    throw error
  }
}

function lockOf(lock: Lock, to: Written, ctx: Context): Extra {
  return {
    name: 'lock',
    async isThere() {
      const found = await retention(to, ctx)
      if (!found) return false
      // The bucket's default may be stricter than what was asked for. Servers keep whole seconds.
      const strict = found.mode === modeOf(lock) || found.mode === 'COMPLIANCE'
      return strict && found.until.getTime() > lock.until.getTime() - 1000
    },
    set: () => retain(to, modeOf(lock), lock.until, ctx),
  }
}

function tagsOf(tags: Readonly<Record<string, string>>, to: Written, ctx: Context): Extra {
  return {
    name: 'tags',
    async isThere() {
      const { TagSet = [] } = await to.connection
        .ask((s3, options) => s3.getObjectTagging(address(to), options), ctx)
        .catch(orNothing)
      const found = new Map(TagSet.map(tag => [tag.Key, tag.Value]))
      return Object.entries(tags).every(([name, value]) => found.get(name) === value)
    },
    set() {
      const TagSet = Object.entries(tags).map(([Key, Value]) => ({ Key, Value }))
      return to.connection.ask(
        (s3, options) => s3.putObjectTagging({ ...address(to), Tagging: { TagSet } }, options),
        ctx,
      )
    },
  }
}

/** The lock of an object; null where there is none, or can be none. Throws when it may not be read. */
export async function retention(
  of: Written,
  ctx: Context,
): Promise<{ mode: 'GOVERNANCE' | 'COMPLIANCE'; until: Date } | null> {
  const { Retention } = await of.connection
    .ask((s3, options) => s3.getObjectRetention(address(of), options), ctx)
    .catch(orNothing)
  if (!Retention?.Mode || !Retention.RetainUntilDate) return null
  return { mode: Retention.Mode, until: Retention.RetainUntilDate }
}

/** PutObjectRetention. */
export function retain(of: Written, Mode: 'GOVERNANCE' | 'COMPLIANCE', until: Date, ctx: Context) {
  const Retention = { Mode, RetainUntilDate: until }
  return of.connection.ask(
    (s3, options) => s3.putObjectRetention({ ...address(of), Retention }, options),
    ctx,
  )
}

/** The answers that mean: this object has none. */
function orNothing(error: unknown): { TagSet?: []; Retention?: undefined } {
  const { code, message } = troubleOf(error)
  const none = ['NoSuchObjectLockConfiguration', 'ObjectLockConfigurationNotFoundError', 'NoSuchTagSet']
  const noLocks = code === 'InvalidRequest' && /object lock/i.test(message)
  if (none.includes(code) || noLocks || isUnknownThere(error)) return {}
  throw error
}

function address(to: Written) {
  return { Bucket: to.connection.bucket, Key: to.key, ...(to.version && { VersionId: to.version }) }
}

function unchecked(extra: Extra, to: Written, ctx: Context): void {
  ctx.emit({
    type: 'warning',
    what: `cannot check the ${extra.name} of ${to.key} in ${to.connection.where}`,
    why: 'the credentials may neither read nor set it',
    remedy: 'permit s3:GetObjectRetention and s3:GetObjectTagging, or check it by hand once',
    store: to.store,
  })
}

const foreign = 'the server does not know what that is'

function missing(extra: Extra, to: Written, cause?: unknown): Dropped {
  const { code = '', message = '' } = cause instanceof Error ? troubleOf(cause) : {}
  const said = [code, message].filter(Boolean).join(', ')
  const dropped = `the server dropped it${said ? `, and refuses it now (${said})` : ' twice'}`
  const failure = {
    what: `the ${extra.name} of ${to.key} in ${to.connection.where} cannot be set`,
    why: cause === foreign ? foreign : dropped,
    remedy: isAbsent(cause) ? '' : `use a server and a bucket that keep ${extra.name}, or ask for none`,
  }
  return new Dropped(failure, extra.name, cause === foreign)
}
