// What the configuration calls a store, or a person by its address; and what a job keeps there.

import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import * as z from 'zod'
import type { Config, JobConfig, KeepConfig, StoreConfig } from '../config/schema.ts'
import { usage } from '../model/failure.ts'
import type { Destination, Retention } from '../model/job.ts'
import type { Store } from '../model/store.ts'
import { answerOf } from '../platform/unanswered.ts'
import { storeOptions, stores } from '../stores/index.ts'

const day = 24 * 3_600_000

export function openStore(
  name: string,
  { lock: _lock, tags: _tags, keep: _keep, expires: _expires, ...options }: StoreConfig,
): Store {
  if (options.type === 'local') return stores.local(name, options)
  if (options.type === 's3') return stores.s3(name, options)
  return stores.rclone(name, options)
}

/** A mistyped path would look like a store without backups. What does not answer, or may not be looked at, is told of when it is read. */
export async function mustBeThere(store: Store, named: string, config: Config): Promise<Store> {
  if (!isFolder(named, config)) return store
  const asked = stat(folderAt(named)).then(
    found => found.isDirectory(),
    ({ code }: NodeJS.ErrnoException) => code !== 'ENOENT' && code !== 'ENOTDIR',
  )
  if ((await answerOf(`the folder ${named}`, asked)) !== false) return store
  throw usage(`there is no store at ${named}`, 'there is no such folder', 'check the path')
}

function isFolder(named: string, config: Config): boolean {
  return !config.stores[named] && !/^(s3|rclone):/.test(named)
}

function folderAt(address: string): string {
  return resolve(address.replace(/^file:(\/\/)?/, ''))
}

/** A store by its address alone: what a person has on an empty machine. */
export function storeAt(address: string): Store {
  if (address.startsWith('s3://')) return stores.s3(address, s3Address(address))
  const remote = /^rclone:(.+)$/s.exec(address)?.[1]
  if (remote !== undefined) {
    // A connection string may hold a password, and the name of a store is printed.
    const name = /[=@]/.test(remote) ? 'the rclone remote given' : address
    const parsed = storeOptions.rclone.safeParse({ remote })
    if (parsed.success) return stores.rclone(name, parsed.data)
    throw usage('the address of an rclone remote cannot be read', z.prettifyError(parsed.error))
  }
  return stores.local(address, storeOptions.local.parse({ path: folderAt(address) }))
}

/** `s3://bucket/prefix?endpoint=https://…&region=…`; credentials come from AWS's own chain. */
function s3Address(address: string): z.output<typeof storeOptions.s3> {
  const match = /^s3:\/\/([^/?]+)\/?([^?]*)(?:\?(.*))?$/.exec(address)
  if (/[?&](accessKeyId|secretAccessKey|sessionToken)=/.test(address)) {
    throw usage(
      'the address of a store holds a key',
      'addresses are printed and logged',
      'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
    )
  }
  const query = Object.fromEntries(new URLSearchParams(match?.[3] ?? ''))
  const parsed = storeOptions.s3.safeParse({
    bucket: match?.[1],
    prefix: match?.[2],
    ...query,
  })
  if (parsed.success) return parsed.data
  throw usage(
    `"${address}" is not the address of a store`,
    z.prettifyError(parsed.error),
    'write s3://bucket/prefix?endpoint=https://…&region=…',
  )
}

/** The folders of the configured local stores: a backup must not hold them, nor a restore replace them. */
export function storeFolders(config: Config): string[] {
  return Object.values(config.stores).flatMap(store => (store.type === 'local' ? [resolve(store.path)] : []))
}

/** The same configuration with the folders among these that a person gave by their addresses as stores, too. */
export function withAddressed(config: Config, named: Iterable<string>): Config {
  const given = [...named].filter(name => isFolder(name, config))
  const stores = given.map(name => [
    name,
    { ...storeOptions.local.parse({ path: folderAt(name) }), type: 'local' as const },
  ])
  return { ...config, stores: { ...Object.fromEntries(stores), ...config.stores } }
}

export function destinationOf(
  to: NonNullable<JobConfig['to']>[number],
  jobKeep: KeepConfig | undefined,
  config: Config,
  open: (name: string) => Store,
): Destination {
  const said = typeof to === 'string' ? { store: to } : to
  const store = config.stores[said.store]
  const keep = said.keep ?? jobKeep ?? store?.keep
  return {
    store: open(said.store),
    keep: retentionOf(keep),
    ...(store?.lock ? { lock: { mode: store.lock.mode, for: store.lock.for } } : {}),
    ...(store?.tags ? { tags: store.tags } : {}),
    ...(store?.expires === undefined ? {} : { expires: store.expires }),
    ...(said.after ? { after: said.after } : {}),
  }
}

/** Retention counts back from the newest backup, and rather keeps a day too many. */
const longestMonth = 31 * day

function retentionOf(keep: KeepConfig | undefined): Retention {
  const { within, ...counts } = keep ?? {}
  const withinMs = within && within.ms + within.months * longestMonth
  const said = Object.entries(counts).filter(([, count]) => count !== undefined)
  return { ...Object.fromEntries(said), ...(withinMs === undefined ? {} : { withinMs }) }
}
