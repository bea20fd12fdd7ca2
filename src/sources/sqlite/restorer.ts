import { createWriteStream, existsSync, rmSync, statSync } from 'node:fs'
import { chmod, chown, link, lstat, rename, rmdir } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Context } from '../../model/context.ts'
import { asFailure, damage, Failure, usage } from '../../model/failure.ts'
import type { ArtifactRecord, Manifest } from '../../model/manifest.ts'
import type { ArtifactReader, RestorePlan, RestoreReport, Restorer, Selection } from '../../model/restore.ts'
import { syncFolder } from '../../platform/atomic-file.ts'
import { makePath } from '../../platform/make-path.ts'
import { privateDir, sweepPrivateDirs } from '../../platform/private-dir.ts'
import { needSpace } from '../../platform/space.ts'
import { demandWritable, whyClosed, whyNotWritten } from '../../platform/writable.ts'
import { examine, type Report } from './check.ts'
import { locked, resultCode } from './connect.ts'
import { look } from './look.ts'

/** Where restores prepare what they bring, beside the target: killed ones leave it, the next one removes it. */
const stagingName = '.cairn-restore'

/**
 * Brings a SQLite database back: to the file it came from, or `to` a file, or `to` a folder that exists.
 *
 * The database is written beside the target, checked, and then either linked under its name, which replaces
 * nothing, or, where there is a database already and a person consents, written into it by SQLite in one
 * transaction: programs that have it open see the old content or the new. Until then the target is untouched.
 */
export function sqliteRestorer(options: { readonly to?: string }): Restorer {
  return {
    async plan(chain, pick) {
      return planFor(await decide(chain, pick, options.to))
    },
    async apply(chain, pick, replace, read, ctx) {
      const goal = await decide(chain, pick, options.to)
      const { replaces } = planFor(goal)
      if (replaces.length > 0 && !replace) {
        throw usage(`cannot restore to ${goal.target}`, `it exists: ${replaces.join(', ')}`)
      }
      return bringBack(goal, read, ctx)
    },
  }
}

interface Goal {
  readonly target: string
  readonly artifact: ArtifactRecord
  readonly options: Readonly<Record<string, unknown>>
  /** A file is there already, of so many bytes; null when there is none. */
  readonly present: number | null
  /** Files of a database that is gone: SQLite would mix what they hold into the new one. */
  readonly orphans: readonly string[]
}

async function decide(chain: readonly Manifest[], pick: Selection, to: string | undefined): Promise<Goal> {
  const manifest = chain.at(-1)
  const artifact = manifest?.artifacts.find(
    a => a.media === 'sqlite' && a.role === 'data' && (pick.only?.includes(a.name) ?? true),
  )
  if (!manifest || !artifact) throw usage('cannot restore', 'the backup holds no such SQLite database')
  const { options } = manifest.source
  const name = basename(artifact.name)
  const target = to === undefined ? originalPath(options) : inside(to, name)
  const present = await sizeOf(target)
  const why = await (present === null ? whyClosed(dirname(target)) : whyNotWritten(target))
  demandWritable([{ target, why }])
  const orphans = ['-wal', '-shm', '-journal'].map(end => target + end).filter(path => existsSync(path))
  return { target, artifact, options, present, orphans: present === null ? orphans : [] }
}

function originalPath(options: Readonly<Record<string, unknown>>): string {
  if (typeof options.path === 'string') return options.path
  throw usage('cannot restore', 'the backup does not say where the database was', 'say where to with --to')
}

/** A folder is one that is there, or is written as one. */
function inside(to: string, name: string): string {
  const path = resolve(to)
  const isFolder = to.endsWith('/') || (existsSync(path) && statSync(path).isDirectory())
  return isFolder ? join(path, name) : path
}

async function sizeOf(target: string): Promise<number | null> {
  try {
    const found = await lstat(target)
    if (found.isSymbolicLink()) return statSync(target).size
    if (found.isFile()) return found.size
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
  throw usage(`cannot restore to ${target}`, 'it is neither a file nor a folder')
}

function planFor(goal: Goal): RestorePlan {
  const exists = goal.present !== null
  return {
    target: goal.target,
    steps: [
      exists
        ? `replaces the content of ${goal.target}, in one transaction`
        : `creates ${goal.target} from ${goal.artifact.name}`,
    ],
    replaces: goal.present ? [goal.target] : goal.orphans,
    warnings: exists
      ? []
      : goal.orphans.map(path => `${path} belongs to a database that is gone, and is removed`),
  }
}

async function bringBack(goal: Goal, read: ArtifactReader, ctx: Context): Promise<RestoreReport> {
  if (goal.present) await demandDatabase(goal.target, ctx)
  // A lost volume takes its folders with it.
  await makePath(dirname(goal.target))
  const base = stagingBase(goal, ctx)
  sweepPrivateDirs(base)
  const staging = privateDir(base)
  try {
    const { plain, stored } = goal.artifact
    await needSpace(staging.path, plain.bytes ?? stored.bytes, `cannot restore to ${goal.target}`)
    const file = join(staging.path, 'database')
    await writeDurably(file, read, goal.artifact, ctx)
    const report = await examine(file, true, ctx)
    demandWhole(goal, report)
    const warnings = await publish(goal, file, ctx)
    return reportOf(goal, report, warnings)
  } finally {
    staging[Symbol.dispose]()
    await rmdir(base).catch(() => {})
  }
}

/** Only a database can be written into; another file is not ours to remove. */
async function demandDatabase(target: string, ctx: Context): Promise<void> {
  try {
    await look(target, ctx)
  } catch (error) {
    const { why } = asFailure(error, '')
    throw usage(`cannot restore to ${target}`, why, 'move it away, or restore to another path')
  }
}

/** Beside the target, so that it can be linked; a folder we cannot write to still lets us write into its file. */
function stagingBase(goal: Goal, ctx: Context): string {
  const beside = join(dirname(goal.target), stagingName)
  try {
    privateDir(beside)[Symbol.dispose]()
    return beside
  } catch (error) {
    if (goal.present !== null) return join(ctx.spool, stagingName)
    throw asFailure(error, `cannot restore to ${goal.target}`, 'run as a user who may write to that folder')
  }
}

async function writeDurably(file: string, read: ArtifactReader, artifact: ArtifactRecord, ctx: Context) {
  try {
    await pipeline(read.open(artifact), createWriteStream(file, { mode: 0o600, flags: 'wx', flush: true }), {
      signal: ctx.signal,
    })
  } catch (error) {
    ctx.signal.throwIfAborted()
    throw asFailure(error, `cannot write ${file}`)
  }
}

function demandWhole(goal: Goal, report: Report): void {
  if (report.problems.length === 0) return
  throw damage(
    `${goal.artifact.name} is not a sound database`,
    report.problems.slice(0, 3).join('; '),
    'restore an older backup',
  )
}

/** Returns warnings. */
async function publish(goal: Goal, file: string, ctx: Context): Promise<string[]> {
  ctx.signal.throwIfAborted()
  if (goal.present !== null) {
    await overwrite(goal.target, file, ctx)
    return []
  }
  const warnings = await giveBack(goal, file)
  for (const path of goal.orphans) rmSync(path, { force: true })
  await linkUnder(goal.target, file)
  try {
    syncFolder(dirname(goal.target))
  } catch {
    // Not every file system can sync a folder (CIFS); the file itself is durable.
  }
  return warnings
}

/** The mode and owner the database had: its program must be able to write to it. */
async function giveBack(goal: Goal, file: string): Promise<string[]> {
  const { mode, uid, gid } = goal.options
  if (typeof mode !== 'number' || typeof uid !== 'number' || typeof gid !== 'number') return []
  try {
    // The owner first: changing it clears bits of the mode.
    await chown(file, uid, gid)
    await chmod(file, mode & 0o777)
    return []
  } catch {
    await chmod(file, mode & 0o777)
    return [`${goal.target} belonged to ${uid}:${gid}, which only root can bring back`]
  }
}

/** Never replaces. Where there are no hard links (exFAT, CIFS), a look before the rename must do. */
async function linkUnder(target: string, file: string): Promise<void> {
  try {
    await link(file, target)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'EEXIST' || existsSync(target)) {
      throw usage(`cannot restore to ${target}`, 'somebody has created it meanwhile')
    }
    await rename(file, target)
  }
}

/** How long to wait for programs that are writing to the target. */
const lockedMs = 10_000

/** In one transaction of SQLite's: killed half-way, its journal brings the old content back at the next open. */
async function overwrite(target: string, file: string, ctx: Context): Promise<void> {
  const { DatabaseSync, backup } = await import('node:sqlite')
  using from = new DatabaseSync(file, { readOnly: true })
  const until = performance.now() + lockedMs
  let leftWal = false
  for (;;) {
    ctx.signal.throwIfAborted()
    try {
      const progress = (): void => ctx.signal.throwIfAborted()
      await backup(from, target, { rate: 1000, progress })
      return
    } catch (error) {
      ctx.signal.throwIfAborted()
      const code = resultCode(error)
      // A WAL database keeps its page size; in rollback mode it takes any.
      if (code === 8 && !leftWal) {
        await leaveWal(target)
        leftWal = true
        continue
      }
      // A target that is locked fails with code 0, "not an error" (Node 24).
      if (code !== 0 && code !== 5)
        throw asFailure(error, `cannot write into ${target}`, remedyFor(code, target))
      if (performance.now() > until) throw locked(target, error)
    }
    await sleep(50)
  }
}

/** SQLite writes only into what it can read: what is damaged (SQLITE_CORRUPT, SQLITE_NOTADB) has to go first. */
function remedyFor(code: number | null, target: string): string {
  if (code === 13) return 'make room in the file system of the target'
  if (code !== 11 && code !== 26) return ''
  return `the database that is there is damaged: move it away together with ${target}-wal and ${target}-shm, and restore again`
}

async function leaveWal(target: string): Promise<void> {
  const { DatabaseSync } = await import('node:sqlite')
  using db = new DatabaseSync(target, { timeout: 1000 })
  try {
    db.exec('PRAGMA journal_mode = DELETE')
  } catch (error) {
    throw new Failure({
      what: `cannot write into ${target}`,
      why: 'it has another page size, and other programs have it open',
      remedy: 'stop those programs',
      cause: error,
    })
  }
}

function reportOf(goal: Goal, report: Report, warnings: readonly string[]): RestoreReport {
  const rows = report.tables.map(table => table.rows)
  return {
    target: goal.target,
    objects: rows.length,
    rows: rows.reduce<number>((sum, count) => sum + (count ?? 0), 0),
    warnings:
      report.lessBecause === '' ? warnings : [...warnings, `not all was checked: ${report.lessBecause}`],
  }
}
