import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type App, appFor } from '../app.ts'
import { Config } from '../config/schema.ts'
import { backup } from '../engine/backup.ts'
import { type CatalogEntry, readCatalog } from '../engine/catalog.ts'
import { restore } from '../engine/restore.ts'
import { manifestFrom } from '../engine/stated.ts'
import { verifyCopy } from '../engine/verify.ts'
import type { Context } from '../model/context.ts'
import { type ExitCode, exitCode, Failure } from '../model/failure.ts'
import { showBytes, showDuration } from '../model/quantity.ts'
import { openState } from '../platform/state.ts'
import { generateIdentity } from '../stages/index.ts'
import { awkwardFiles, folderDifference, ordersDifference } from './demo-data.ts'
import { type Global, interruptSignal, out, outJson, paint, say, sayFailure } from './io.ts'

interface Options extends Global {
  readonly keep?: boolean
}

/** Where the account of what is done goes: it is the result, unless a document is. */
let account = out

/** `cairn demo`: backs a busy database and a folder up, destroys both, brings them back and compares. Exit 0 only if they are equal. */
export async function run(options: Options): Promise<ExitCode> {
  const dir = mkdtempSync(join(tmpdir(), 'cairn-demo-'))
  if (options.json) account = async text => say(text)
  try {
    const code = await roundTrip(dir)
    if (options.json) await outJson({ cairn: 1, equal: code === exitCode.ok })
    return code
  } finally {
    if (options.keep) await account(`everything is left in ${dir}`)
    else rmSync(dir, { recursive: true, force: true })
  }
}

async function roundTrip(dir: string): Promise<ExitCode> {
  const place = {
    database: join(dir, 'app', 'orders.db'),
    folder: join(dir, 'documents'),
    store: join(dir, 'store'),
  }
  const app = await demoApp(dir, place)
  using ctx = app.context(interruptSignal(), event => {
    if (event.type === 'warning' || event.type === 'failure')
      sayFailure(event, event.type === 'failure' ? 'error' : 'warning')
  })
  await heading(
    'An application writes orders into a SQLite database; a folder holds files with awkward names.',
  )
  await awkwardFiles(place.folder)
  const writer = await startWriter(place.database)
  try {
    await timed('back up the database while it is written to', () => backUp(app, 'orders', ctx))
    await timed('back up the folder', () => backUp(app, 'documents', ctx))
  } finally {
    writer.stdin.end()
    await once(writer, 'close')
  }
  const { entries } = await readCatalog(await app.stores([]), null, ctx)
  for (const entry of entries)
    await account(
      `  ${entry.id}  ${entry.job}  ${showBytes(entry.bytes)}, encrypted with ${entry.encryption}`,
    )
  await timed('verify: read every byte back and decode it', () => verifyAll(app, entries, ctx))

  await heading('Disaster: the database is deleted, the folder too.')
  const before = join(dir, 'before')
  cpSync(join(dir, 'app'), join(before, 'app'), { recursive: true })
  cpSync(place.folder, join(before, 'documents'), {
    recursive: true,
    preserveTimestamps: true,
    verbatimSymlinks: true,
  })
  await rm(join(dir, 'app'), { recursive: true })
  await rm(place.folder, { recursive: true })

  await timed('restore the database', () => bringBack(app, entries, 'orders', ctx))
  await timed('restore the folder', () => bringBack(app, entries, 'documents', ctx))
  await heading('Compare with what was there before:')
  const rows = ordersDifference(join(before, 'app', 'orders.db'), place.database)
  const files = await folderDifference(join(before, 'documents'), place.folder)
  for (const { equal, said } of [rows, files])
    await account(
      `  ${equal ? paint('green', 'equal', process.stdout) : paint('red', 'DIFFERENT', process.stdout)}  ${said}`,
    )
  return rows.equal && files.equal ? exitCode.ok : exitCode.failed
}

async function demoApp(
  dir: string,
  place: { database: string; folder: string; store: string },
): Promise<App> {
  const { recipient, identity } = await generateIdentity()
  const config = Config.parse({
    stores: { disk: { type: 'local', path: place.store } },
    encryption: { age: { recipients: [recipient], identity: identity.reveal() } },
    defaults: { to: ['disk'] },
    jobs: {
      orders: { source: { type: 'sqlite', path: place.database } },
      documents: { source: { type: 'files', paths: [place.folder] } },
    },
  })
  return appFor(config, openState({ CAIRN_STATE: join(dir, 'state') }))
}

async function startWriter(database: string) {
  const { mkdirSync } = await import('node:fs')
  mkdirSync(join(database, '..'), { recursive: true })
  const script = join(import.meta.dirname, 'demo-writer.ts')
  const writer = spawn(process.execPath, [script, database], { stdio: ['pipe', 'pipe', 'inherit'] })
  const ready = once(writer.stdout, 'data')
  const failed = once(writer, 'close').then(() => {
    throw new Failure({ what: 'the demo failed', why: 'its application did not start' })
  })
  failed.catch(() => {})
  await Promise.race([ready, failed])
  return writer
}

async function backUp(app: App, name: string, ctx: Context): Promise<string> {
  const [outcome] = await backup(await app.job(name), app.state.host, ctx)
  if (!outcome?.manifest) throw outcome?.failures[0] ?? new Error('nothing was backed up')
  const { artifacts, census } = outcome.manifest
  const stored = artifacts.reduce((sum, artifact) => sum + artifact.stored.bytes, 0)
  const plain = artifacts.reduce((sum, artifact) => sum + (artifact.plain.bytes ?? 0), 0)
  const size = plain > stored ? `${showBytes(plain)} became ${showBytes(stored)}` : showBytes(stored)
  return census?.rows ? `${size}, ${census.rows} rows or files` : size
}

async function verifyAll(app: App, entries: readonly CatalogEntry[], ctx: Context): Promise<string> {
  const looking = { ...(await app.reading(undefined)), contentOf: app.contentOf }
  let bytes = 0
  for (const entry of entries) {
    for (const copy of entry.copies) {
      const result = await verifyCopy(entry, copy, looking, ctx)
      if (result.failures[0]) throw result.failures[0]
      bytes += result.bytes
    }
  }
  return `${showBytes(bytes)}, all sound`
}

async function bringBack(
  app: App,
  entries: readonly CatalogEntry[],
  job: string,
  ctx: Context,
): Promise<string> {
  const entry = entries.find(each => each.job === job)
  if (!entry) throw new Failure({ what: 'the demo failed', why: `there is no backup of ${job}` })
  const { manifest } = await manifestFrom(entry, ctx)
  const { stagesOf } = await app.reading(undefined)
  const stores = entry.copies.map(copy => copy.store)
  const report = await restore(
    manifest,
    stores,
    app.restorer(manifest, null),
    { allow: new Set() },
    false,
    stagesOf,
    ctx,
  )
  return report.target
}

async function timed(what: string, work: () => Promise<string>): Promise<void> {
  const started = performance.now()
  const result = await work()
  await account(`  ${what}: ${result} (${showDuration(performance.now() - started)})`)
}

async function heading(text: string): Promise<void> {
  await account(`\n${paint('bold', text, process.stdout)}`)
}
