import { randomUUID } from 'node:crypto'
import { existsSync, lstatSync } from 'node:fs'
import { chmod, mkdir, readdir, rmdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Context } from '../../model/context.ts'
import { asFailure, damage, usage } from '../../model/failure.ts'
import type { ArtifactReader, RestoreReport, Restorer } from '../../model/restore.ts'
import { makePath } from '../../platform/make-path.ts'
import { privateDir, sweepPrivateDirs } from '../../platform/private-dir.ts'
import { applyToFolder, type Extraction, extract, folderItself } from './extract.ts'
import { demandSpace, type Goal, goalsOf, planFor, replacedPrefix } from './goal.ts'
import { stagingName } from './session.ts'
import { inventory, Moves, type RawPath, removeTree, under } from './staging.ts'
import { gnuTar } from './tar.ts'

/**
 * Brings folders and files back: to where they were, or below the folder `to` under their names.
 *
 * All of them are first extracted beside their places, inside the target folders (which may be mount points) and
 * looked through; only when all are whole and harmless are the entries moved into place. What they replace is moved
 * away first and removed last. Until the moves, any end, a kill included, leaves the targets as they were; a
 * failure between them takes them back. A kill between them leaves what was replaced in `.cairn-replaced-*`.
 */
export function filesRestorer(options: {
  readonly to?: string
  /** Folders that are never replaced, nor anything that holds them: the stores. */
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
    }
    for (const stage of staged) await spareStores(stage, protect)
    await moveIntoPlace(staged, ctx)
    whole = true
  } finally {
    for (const stage of staged) await clear(stage, whole)
  }
  for (const stage of staged)
    warnings.push(...(await finishFolder(stage, { tree: '', tar, owners, allow }, ctx)))
  return {
    target,
    objects: goals.length,
    rows: staged.reduce((sum, stage) => sum + stage.entries, 0),
    warnings,
    ...(tooLong > 0 ? { isShort: true } : {}),
  }
}

/** A goal while it is being reached. */
interface Staged {
  readonly goal: Goal
  /** Ours, beside the place. */
  readonly dir: Disposable & { readonly path: string }
  /** What was extracted, below `dir`. */
  readonly tree: string
  /** Where entries that are replaced wait until all is in place. */
  readonly replaced: string
  /** The first folder we made on the way to the target. */
  readonly made: string | undefined
  entries: number
  /** The attributes of the folder itself, as an archive. */
  folder: Uint8Array | null
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
    return { goal, dir, tree, replaced, made, entries: 0, folder: null }
  } catch (error) {
    await removeEmpty(goal.folder, made)
    throw asFailure(error, `cannot restore to ${goal.target}`, 'run as a user who may write there')
  }
}

async function lookThrough(stage: Staged, extraction: Extraction, ctx: Context): Promise<void> {
  const { mode } = await stat(stage.tree)
  // Without these rights, which the folder may lack, whoever is not root could not move what it holds.
  await chmod(stage.tree, mode | 0o700)
  const { entries } = await inventory(stage.tree, extraction.allow, ctx)
  if (stage.goal.kind === 'folder') {
    stage.entries = entries
    stage.folder = await folderItself(stage.tree, mode & 0o7777, extraction.tar, ctx)
    return
  }
  const names = await readdir(stage.tree)
  stage.entries = entries - 1
  if (names.length === 1) return
  throw damage(
    `${stage.goal.artifact.name} is not what it says`,
    `it holds ${names.length} files instead of one`,
  )
}

/** Throws when an entry would take the place of a folder that must stay: the backup being read may lie in it. */
async function spareStores({ goal, tree }: Staged, protect: readonly string[]): Promise<void> {
  for (const name of await readdir(tree)) {
    const to = goal.kind === 'file' ? goal.target : join(goal.folder, name)
    const store = protect.find(path => path === to || path.startsWith(`${to}/`) || to.startsWith(`${path}/`))
    if (store === undefined) continue
    throw usage(
      `cannot restore to ${goal.target}`,
      `it would replace ${to}, where the store ${store} is`,
      'restore to another folder with --to',
    )
  }
}

/** All or none; throws what went wrong, after everything was moved back. */
async function moveIntoPlace(staged: readonly Staged[], ctx: Context): Promise<void> {
  const moves = new Moves()
  try {
    for (const stage of staged) {
      for (const name of await readdir(stage.tree, { encoding: 'buffer' })) {
        ctx.signal.throwIfAborted()
        await moveEntry(stage, name, moves)
      }
    }
  } catch (error) {
    await moves.takeBack()
    ctx.signal.throwIfAborted()
    throw asFailure(error, `cannot put the files into ${staged.map(stage => stage.goal.target).join(', ')}`)
  }
}

async function moveEntry(stage: Staged, name: RawPath, moves: Moves): Promise<void> {
  const { goal, tree, replaced } = stage
  const to = goal.kind === 'file' ? Buffer.from(goal.target) : under(goal.folder, name)
  if (name.equals(Buffer.from(stagingName))) return
  if (name.equals(Buffer.from('lost+found')) && existsSync(to)) return
  if (isThere(to)) {
    // Consent was given for what the plan saw; an empty target has nothing to consent to.
    if (goal.present.length === 0)
      throw usage(`cannot restore to ${goal.target}`, `somebody has made ${to} meanwhile`)
    if (!existsSync(replaced)) await moves.makeFolder(Buffer.from(replaced))
    await moves.move(to, under(replaced, name))
  }
  await moves.move(under(tree, name), to)
}

function isThere(path: RawPath): boolean {
  try {
    lstatSync(path)
    return true
  } catch {
    return false
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

/** Last, because everything before has changed the folder's times. Returns warnings. */
async function finishFolder(stage: Staged, extraction: Extraction, ctx: Context): Promise<string[]> {
  if (!stage.folder) return []
  try {
    await applyToFolder(stage.goal.folder, stage.folder, extraction, ctx)
    return []
  } catch (error) {
    ctx.signal.throwIfAborted()
    return [`${stage.goal.folder} keeps its own mode and owner: ${asFailure(error, '').why}`]
  }
}
