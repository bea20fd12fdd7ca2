import { existsSync, statSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import * as z from 'zod'
import { usage } from '../../model/failure.ts'
import type { ArtifactRecord, Manifest } from '../../model/manifest.ts'
import type { RestorePlan, Selection } from '../../model/restore.ts'
import { mountsBelow } from '../../platform/mounts.ts'
import { nearestExisting, needSpace } from '../../platform/space.ts'
import { demandWritable, whyClosed, whyNotReplaced } from '../../platform/writable.ts'
import { stagingName } from './session.ts'

/** What `finish` of a session told the manifest. */
const Recorded = z.object({
  withName: z.boolean().optional(),
  paths: z.array(z.object({ name: z.string(), path: z.string(), kind: z.enum(['folder', 'file']) })),
})

/** One artifact and where it goes. */
export interface Goal {
  readonly artifact: ArtifactRecord
  readonly kind: 'folder' | 'file'
  readonly target: string
  /** The names in the archive begin with that of the folder, which is left out here. */
  readonly withName: boolean
  /** The folder that gets new entries: the target, or the one that holds it. */
  readonly folder: string
  /** What is in the way, or may be: the backup's own names are known only when it is read. */
  readonly present: readonly string[]
  /** What is mounted inside the target: absolute. */
  readonly mounts: readonly string[]
  /** What restores that were killed have left behind and that is not ours to remove. */
  readonly leftBehind: readonly string[]
}

/** Throws a Failure when the backup holds nothing that was asked for, or a target cannot be one or be written. */
export async function goalsOf(
  chain: readonly Manifest[],
  pick: Selection,
  to: string | undefined,
): Promise<Goal[]> {
  const manifest = chain.at(-1)
  const said = Recorded.safeParse(manifest?.source.options).data
  const recorded = said?.paths ?? []
  const goals: Goal[] = []
  for (const artifact of manifest?.artifacts ?? []) {
    const name = /^files\/([^/\0]+)\.tar$/.exec(artifact.name)?.[1]
    if (!name || name === '.' || name === '..' || artifact.media !== 'tar' || artifact.role !== 'data')
      continue
    if (pick.only && !pick.only.includes(artifact.name) && !pick.only.includes(name)) continue
    const place = recorded.find(one => one.name === name)
    const target = to === undefined ? place?.path : join(resolve(to), name)
    if (!target)
      throw usage(`cannot restore ${name}`, 'the backup does not say where it was', 'say where to with --to')
    const goal = await goalFor(artifact, place?.kind ?? 'folder', target)
    goals.push({ ...goal, withName: said?.withName === true && goal.kind === 'folder' })
  }
  if (goals.length === 0) throw usage('cannot restore', 'the backup holds no such files')
  const places = goals.map(async goal => ({ target: goal.target, why: await whyNotPut(goal) }))
  demandWritable(await Promise.all(places))
  return goals
}

function whyNotPut({ kind, target, folder }: Goal): Promise<string | null> {
  return kind === 'file' ? whyNotReplaced(target) : whyClosed(folder)
}

/** The part of a goal that lies in something that is mounted inside its target. */
export async function goalAtMount(goal: Goal, folder: string): Promise<Goal> {
  return { ...(await goalFor(goal.artifact, 'folder', folder)), withName: false }
}

async function goalFor(
  artifact: ArtifactRecord,
  kind: Goal['kind'],
  target: string,
): Promise<Omit<Goal, 'withName'>> {
  const folder = kind === 'folder' ? target : dirname(target)
  const existing = await nearestExisting(folder)
  if (!statSync(existing).isDirectory()) {
    throw usage(`cannot restore to ${target}`, `${existing} is not a folder`, 'restore to another folder')
  }
  if (kind === 'file' && existsSync(target) && statSync(target).isDirectory()) {
    throw usage(`cannot restore to ${target}`, 'it is a folder, and the backup holds a file')
  }
  const entries = existsSync(folder) ? await readdir(folder) : []
  const present = kind === 'folder' ? entries.filter(isData) : existsSync(target) ? [''] : []
  const mounts = kind === 'folder' ? await mountsBelow(folder) : []
  const unreadable = mounts.find(inner => inner.includes('\ufffd'))
  if (unreadable !== undefined)
    throw usage(
      `cannot restore to ${target}`,
      `${join(target, unreadable)} is mounted inside, under a name that is not UTF-8`,
      'unmount it, or restore to another folder',
    )
  return {
    artifact,
    kind,
    target,
    folder,
    present: present.map(name => join(target, name)),
    mounts: mounts.map(inner => join(target, inner)),
    leftBehind: entries.filter(name => name.startsWith(replacedPrefix)).map(name => join(folder, name)),
  }
}

/** What is replaced waits here until all is in place. */
export const replacedPrefix = '.cairn-replaced-'

/** An empty file system holds its `lost+found`, and nobody's data. */
function isData(name: string): boolean {
  return name !== stagingName && name !== 'lost+found' && !name.startsWith(replacedPrefix)
}

export function sayLeftBehind({ leftBehind }: Goal): string[] {
  return leftBehind.map(
    path => `${path} holds what an interrupted restore had moved away: look into it, then remove it`,
  )
}

export function planFor(goals: readonly Goal[], allow: ReadonlySet<string>): RestorePlan {
  const warnings = goals.flatMap(sayLeftBehind)
  for (const mount of goals.flatMap(goal => goal.mounts)) {
    const text =
      'is mounted by itself: it gets its part of the backup, and what else it and the folders above it hold stays'
    warnings.push(`${mount} ${text}`)
  }
  if (process.getuid?.() !== 0 && !allow.has('no-owner')) {
    warnings.push('only root can give files to their owners: all will belong to the user who restores them')
  }
  return {
    target: goals.map(goal => goal.target).join(', '),
    steps: goals.map(goal =>
      goal.kind === 'folder'
        ? `extracts ${goal.artifact.name} into ${goal.target}; what has other names there stays`
        : `extracts ${goal.artifact.name} as ${goal.target}`,
    ),
    replaces: goals.flatMap(goal => listed(goal.present, goal.target)),
    warnings,
  }
}

function listed(paths: readonly string[], target: string): string[] {
  const most = 20
  if (paths.length <= most) return [...paths]
  return [...paths.slice(0, most), `${paths.length - most} more in ${target}`]
}

/**
 * Throws a Failure when the backup cannot fit: an archive that grows beyond all measure must not fill a disk
 * that others need. Where the plain size is not known, the stored one is what it needs at least.
 */
export async function demandSpace(goals: readonly Goal[]): Promise<void> {
  const needed = new Map<number, { bytes: number; folder: string }>()
  for (const { folder, artifact } of goals) {
    const existing = await nearestExisting(folder)
    const { dev } = statSync(existing)
    const bytes = (needed.get(dev)?.bytes ?? 0) + (artifact.plain.bytes ?? artifact.stored.bytes)
    needed.set(dev, { bytes, folder: existing })
  }
  for (const { bytes, folder } of needed.values()) {
    await needSpace(
      folder,
      bytes,
      `cannot restore to ${folder}`,
      'make room, or restore to another file system',
    )
  }
}
