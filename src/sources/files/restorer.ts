import { randomUUID } from 'node:crypto'
import { chmod, mkdir, readdir, rmdir, stat } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import type { Context } from '../../model/context.ts'
import { asFailure, damage, usage } from '../../model/failure.ts'
import type { ArtifactReader, RestoreReport, Restorer } from '../../model/restore.ts'
import { makePath } from '../../platform/make-path.ts'
import { mountsBelow, pathsOf, realPath } from '../../platform/mounts.ts'
import { privateDir, sweepPrivateDirs } from '../../platform/private-dir.ts'
import { systemFailure } from '../../platform/system-error.ts'
import { entriesOf, foldersAbove, isFolder, moveEntry, type Tree } from './entries.ts'
import { applyToFolder, copyTree, type Extraction, extract, folderItself } from './extract.ts'
import {
  demandSpace,
  type Goal,
  goalAtMount,
  goalsOf,
  planFor,
  replacedPrefix,
  sayLeftBehind,
} from './goal.ts'
import { stagingName } from './session.ts'
import { cannotReplace, inventory, Moves, removeTree } from './staging.ts'
import { gnuTar } from './tar.ts'

/**
 * Brings folders and files back: to where they were, or below the folder `to` under their names.
 *
 * All of them are first extracted beside their places, inside the target folders (which may be mount points) and
 * looked through; only when all are whole and harmless are the entries moved into place. What they replace is moved
 * away first and removed last. Until the moves, any end, a kill included, leaves the targets as they were; a
 * failure between them takes them back. A kill between them leaves what was replaced in `.cairn-replaced-*`. What is mounted
 * inside a target stays where it is, and gets its part of the backup in the same way.
 */
export function filesRestorer(options: {
  readonly to?: string
  /** Folders that are never replaced, by whatever path they are reached, nor anything that holds them: the stores. */
  readonly protect?: readonly string[]
}): Restorer {
  return {
    async plan(chain, pick) {
      return planFor(await goalsOf(chain, pick, options.to), pick.allow)
    },
    async apply(chain, pick, replace, read, ctx) {
      const goals = await goalsOf(chain, pick, options.to)
      const { target, replaces } = planFor(goals, pick.allow)
      if (replaces.length > 0 && !replace)
        throw usage(`cannot restore to ${target}`, `there is ${replaces[0]} already`)
      await demandSpace(goals)
      return bringBack(goals, target, pick.allow, options.protect ?? [], read, ctx)
    },
  }
}

async function bringBack(
  goals: readonly Goal[],
  target: string,
  allow: ReadonlySet<string>,
  protect: readonly string[],
  read: ArtifactReader,
  ctx: Context,
): Promise<RestoreReport> {
  const tar = await gnuTar(ctx)
  const owners = process.getuid?.() === 0 && !allow.has('no-owner')
  const staged: Staged[] = []
  const warnings: string[] = []
  let tooLong = 0
  let whole = false
  try {
    for (const goal of goals) {
      const stage = await prepare(goal)
      staged.push(stage)
      const extraction = { tree: stage.tree, tar, owners, allow, withName: goal.withName }
      const extracted = await extract(goal.artifact, extraction, read, ctx)
      warnings.push(...extracted.warnings)
      tooLong += extracted.tooLong
      await lookThrough(stage, extraction, ctx)
      await divide(stage, staged, extraction, ctx)
    }
    const stores = (await Promise.all(protect.map(pathsOf))).flat()
    for (const stage of staged) {
      await spare(stage, stores)
      if (!goals.includes(stage.goal)) warnings.push(...sayLeftBehind(stage.goal))
    }
    await moveIntoPlace(staged, ctx)
    whole = true
  } finally {
    for (const stage of staged) await clear(stage, whole)
  }
  for (const stage of staged.toReversed())
    warnings.push(...(await finishFolders(stage, { tar, owners, allow }, ctx)))
  return {
    target,
    objects: goals.length,
    rows: staged.reduce((sum, stage) => sum + stage.entries, 0),
    warnings,
    ...(tooLong > 0 ? { isShort: true } : {}),
  }
}

/** A goal while it is being reached; what was extracted lies below `dir`. */
interface Staged extends Tree {
  /** Ours, beside the place. */
  readonly dir: Disposable & { readonly path: string }
  /** The first folder we made on the way to the target. */
  readonly made: string | undefined
  entries: number
  /** The attributes of folders that stay, as archives: of the target itself and of those above a mount, outer ones first. */
  folders: { readonly path: string; readonly kept: Uint8Array }[]
}

async function prepare(goal: Goal): Promise<Staged> {
  let made: string | undefined
  try {
    made = await makePath(goal.folder)
    const base = join(goal.folder, stagingName)
    sweepPrivateDirs(base)
    const dir = privateDir(base)
    const tree = join(dir.path, 'tree')
    await mkdir(tree)
    const replaced = join(goal.folder, `${replacedPrefix}${randomUUID().slice(0, 8)}`)
    return { goal, dir, tree, replaced, made, entries: 0, folders: [] }
  } catch (error) {
    await removeEmpty(goal.folder, made)
    const what = `cannot restore to ${goal.target}`
    throw systemFailure(error, what) ?? asFailure(error, what, 'run as a user who may write there')
  }
}

async function lookThrough(stage: Staged, extraction: Extraction, ctx: Context): Promise<void> {
  if (stage.goal.kind === 'folder') {
    await keepFolders(stage, extraction, ctx)
    stage.entries = (await inventory(stage.tree, extraction.allow, ctx)).entries
    return
  }
  await chmod(stage.tree, ownRights)
  stage.entries = (await inventory(stage.tree, extraction.allow, ctx)).entries - 1
  const names = await readdir(stage.tree)
  if (names.length === 1) return
  throw damage(
    `${stage.goal.artifact.name} is not what it says`,
    `it holds ${names.length} files instead of one`,
  )
}

/** Without these, which a folder may lack, whoever is not root could not move what it holds. */
const ownRights = 0o700

/** Remembers the attributes of folders that stay where they are. */
async function keepFolders(stage: Staged, { tar }: Extraction, ctx: Context): Promise<void> {
  for (const inner of ['', ...foldersAbove(stage.goal)]) {
    const from = join(stage.tree, inner)
    if (!isFolder(from)) continue
    const { mode } = await stat(from)
    await chmod(from, mode | ownRights)
    const kept = await folderItself(from, mode & 0o7777, tar, ctx)
    stage.folders.push({ path: join(stage.goal.folder, inner), kept })
  }
}

/** What goes into something that is mounted inside the target is put beside its place there: nothing can be moved across. */
async function divide(stage: Staged, staged: Staged[], extraction: Extraction, ctx: Context): Promise<void> {
  const { goal, tree } = stage
  for (const mount of goal.mounts) {
    const from = join(tree, relative(goal.target, mount))
    if (!isFolder(from) || !isFolder(mount)) continue
    const part = await prepare(await goalAtMount(goal, mount))
    staged.push(part)
    await copyTree(from, { ...extraction, tree: part.tree, withName: false }, ctx)
    await keepFolders(part, extraction, ctx)
    await divide(part, staged, extraction, ctx)
  }
}

/**
 * Throws when an entry would take the place of what must stay: of a store, as the backup being read may lie in it, or of a folder
 * in which something is mounted by now, which the kernel would move along.
 */
async function spare(stage: Staged, stores: readonly string[]): Promise<void> {
  const { folder } = stage.goal
  const realFolder = await realPath(folder)
  const mounts = (await mountsBelow(folder)).map(inner => join(folder, inner))
  for await (const entry of entriesOf(stage)) {
    const to = entry.to.toString()
    const real = join(realFolder, relative(folder, to))
    if (!entry.isMounted && mounts.some(mount => holds(to, mount)))
      throw cannotReplace(entry.to, undefined, 'something is mounted in it')
    const store = stores.find(path => [to, real].some(each => holds(each, path) || holds(path, each)))
    if (store === undefined) continue
    throw usage(
      `cannot restore to ${stage.goal.target}`,
      `it would replace ${to}, where the store ${store} is`,
      'restore to another folder with --to',
    )
  }
}

function holds(outer: string, inner: string): boolean {
  return inner === outer || inner.startsWith(`${outer}/`)
}

/** All or none; throws what went wrong, after everything was moved back. */
async function moveIntoPlace(staged: readonly Staged[], ctx: Context): Promise<void> {
  const moves = new Moves()
  try {
    for (const stage of staged) {
      for await (const entry of entriesOf(stage)) {
        ctx.signal.throwIfAborted()
        await moveEntry(stage, entry, moves)
      }
    }
  } catch (error) {
    await moves.takeBack()
    ctx.signal.throwIfAborted()
    throw asFailure(error, `cannot put the files into ${staged.map(stage => stage.goal.target).join(', ')}`)
  }
}

/** Leaves what was put into place, if it was, and nothing else of ours. */
async function clear(stage: Staged, whole: boolean): Promise<void> {
  if (whole) await removeTree(stage.replaced)
  await removeTree(stage.dir.path)
  stage.dir[Symbol.dispose]()
  await rmdir(dirname(stage.dir.path)).catch(() => {})
  if (!whole) await removeEmpty(stage.goal.folder, stage.made)
}

/** Removes the folders that we made from `made` down to `folder`, as far as they are empty. */
async function removeEmpty(folder: string, made: string | undefined): Promise<void> {
  if (made === undefined) return
  try {
    await rmdir(folder)
  } catch {
    return
  }
  if (folder !== made) await removeEmpty(dirname(folder), made)
}

/** Last, because everything before has changed the folders' times. Returns warnings. */
async function finishFolders(
  { folders }: Staged,
  extraction: Omit<Extraction, 'tree'>,
  ctx: Context,
): Promise<string[]> {
  const warnings: string[] = []
  for (const { path, kept } of folders.toReversed()) {
    try {
      await applyToFolder(kept, { ...extraction, tree: path }, ctx)
    } catch (error) {
      ctx.signal.throwIfAborted()
      warnings.push(`${path} keeps its own mode and owner: ${asFailure(error, '').why}`)
    }
  }
  return warnings
}
