import { existsSync, lstatSync, type Stats } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { usage } from '../../model/failure.ts'
import type { Goal } from './goal.ts'
import { stagingName } from './session.ts'
import { type Moves, type RawPath, under } from './staging.ts'

/** An extracted tree, the goal that it is for, and where what it replaces waits until all is in place. */
export interface Tree {
  readonly goal: Goal
  readonly tree: string
  readonly replaced: string
}

/** A part of a tree that goes to its place as a whole. */
export interface Entry {
  readonly from: RawPath
  readonly to: RawPath
  /** The folder below the tree that it lies in; '' for the tree itself. */
  readonly inner: string
  /** A file that is mounted: the kernel lets nobody move it. */
  readonly isMounted: boolean
}

/**
 * What of a tree goes where. What is mounted inside the target cannot be moved, and is hidden when a folder above it is: such
 * folders stay, and what the tree has for them is moved by itself; a folder that is mounted has a tree of its own and is left out.
 */
export async function* entriesOf(
  { goal, tree }: Pick<Tree, 'goal' | 'tree'>,
  inner = '',
): AsyncGenerator<Entry, void, undefined> {
  const folder = join(tree, inner)
  for (const name of await readdir(folder, { encoding: 'buffer' })) {
    const from = under(folder, name)
    const to = goal.kind === 'file' ? Buffer.from(goal.target) : under(join(goal.folder, inner), name)
    if (inner === '' && isOurs(name, to)) continue
    const path = join(inner, name.toString())
    const mount = goal.mounts.find(each => each === join(goal.target, path))
    if (mount !== undefined && isFolder(from) && isFolder(to)) continue
    if (isFolder(from) && foldersAbove(goal).includes(path)) yield* entriesOf({ goal, tree }, path)
    else yield { from, to, inner, isMounted: mount !== undefined }
  }
}

function isOurs(name: RawPath, to: RawPath): boolean {
  if (name.equals(Buffer.from(stagingName))) return true
  return name.equals(Buffer.from('lost+found')) && existsSync(to)
}

/** The folders above what is mounted inside the target, relative to it, each before those that it holds. */
export function foldersAbove({ mounts, target }: Goal): string[] {
  const above = mounts.flatMap(mount => {
    const names = relative(target, mount).split('/').slice(0, -1)
    return names.map((_, index) => names.slice(0, index + 1).join('/'))
  })
  return [...new Set(above)].sort()
}

/** Puts an entry into place; what is there is moved away first, or copied where it cannot be moved. Throws a Failure. */
export async function moveEntry({ goal, replaced }: Tree, entry: Entry, moves: Moves): Promise<void> {
  const { from, to, inner } = entry
  if (statsOf(to)) {
    // Consent was given for what the plan saw; an empty target has nothing to consent to.
    if (goal.present.length === 0)
      throw usage(`cannot restore to ${goal.target}`, `somebody has made ${to} meanwhile`)
    const aside = join(replaced, inner)
    for (const folder of missing(aside)) await moves.makeFolder(Buffer.from(folder))
    const kept = under(aside, from.subarray(from.lastIndexOf('/') + 1))
    if (entry.isMounted) return await moves.overwrite(from, to, kept)
    await moves.move(to, kept)
  }
  await moves.move(from, to)
}

/** The folders of a path that are not there, each before those that it holds. */
function missing(path: string): string[] {
  return existsSync(path) ? [] : [...missing(dirname(path)), path]
}

export function isFolder(path: RawPath | string): boolean {
  return statsOf(path)?.isDirectory() === true
}

function statsOf(path: RawPath | string): Stats | null {
  try {
    return lstatSync(path)
  } catch {
    return null
  }
}
