import { createReadStream, existsSync } from 'node:fs'
import { readdir, rm, stat } from 'node:fs/promises'
import { join, relative } from 'node:path'
import type { Context } from '../../model/context.ts'
import { asFailure, exitCode, Failure, usage, worstExit } from '../../model/failure.ts'
import type { ArtifactRecord, Manifest } from '../../model/manifest.ts'
import type { ArtifactReader, RestorePlan, RestoreReport, Restorer, Selection } from '../../model/restore.ts'
import type { Bytes, Program, Step } from '../../model/step.ts'
import { flow, pour } from '../../platform/flow.ts'
import { privateDir } from '../../platform/private-dir.ts'
import { describeExit } from '../../platform/program.ts'
import { needSpace } from '../../platform/space.ts'

/** A member of an archive, and how it is brought back. */
export interface RestorableMember {
  /** Its name in the archive. */
  readonly name: string
  /** The name of what is restored: a database, a path. */
  readonly unit: string
  readonly role: ArtifactRecord['role']
  /** What the artifact is called for the restorer. */
  readonly artifact: string
  /** What the restorer wants to know of the backup. */
  readonly options: Readonly<Record<string, unknown>>
  /** A folder whose files are artifacts each; false: one artifact, of a folder the tar of it. */
  readonly isFolder?: boolean
  /** What undoes what was done to its bytes before they were put into the archive. */
  readonly undo: readonly Step[]
  /** Who brings it back. `content`: the first bytes of the member, where they decide; empty when only a plan is made. */
  by(content: Buffer): { readonly engine: string; readonly media: string; readonly restorer: Restorer }
}

/**
 * Brings back an archive of several sources, member by member, each by the restorer of its own engine. The archive is
 * extracted into the spool first, which needs room for all of it; only when it was read whole, and every member has a
 * plan, is anything touched. From there on each member is whole or not at all; one that fails does not stop the others,
 * and is told at the end (exit 3).
 */
export function archiveRestorer(members: readonly RestorableMember[]): Restorer {
  return {
    picksInside: true,
    readsFirst: true,
    async plan(chain, pick, ctx) {
      const unread = wanted(members, chain, pick).map(member => ({ member, head: Buffer.alloc(0) }))
      if (unread.length === 0) throw usage('cannot restore', 'nothing of the archive is a member of the job')
      return await planOf(mine(chain), unread, pick, ctx)
    },
    async apply(chain, pick, replace, read, ctx, ready) {
      const manifest = mine(chain)
      const asked = wanted(members, chain, pick)
      const dir = privateDir(ctx.spool)
      try {
        await extract(manifest, dir.path, read, ctx)
        // What the members are is known now, and their targets may have changed while all was fetched.
        await planOf(manifest, await extracted(asked, dir.path), pick, ctx)
        await ready?.()
        return await bringBack(manifest, asked, dir.path, pick, replace, ctx)
      } finally {
        await rm(dir.path, { recursive: true, force: true })
        dir[Symbol.dispose]()
      }
    },
  }
}

function mine(chain: readonly Manifest[]): Manifest {
  const manifest = chain.at(-1)
  if (manifest?.source.engine === 'archive') return manifest
  throw usage('cannot restore', 'this is not an archive of several sources', 'choose another backup')
}

/** The members that are asked for; where the manifest lists what is in the archive, only those. */
function wanted(
  members: readonly RestorableMember[],
  chain: readonly Manifest[],
  { only }: Selection,
): RestorableMember[] {
  const listed = listedIn(mine(chain))
  const unknown = only?.find(name => !members.some(member => member.name === name))
  if (unknown !== undefined) {
    const names = members.map(member => member.name).join(', ')
    throw usage(
      `cannot restore only "${unknown}"`,
      'no member of the archive has that name',
      `there are: ${names}`,
    )
  }
  const asked = members.filter(member => only?.includes(member.name) !== false)
  // Who owns things must be there before them.
  const chosen = asked.toSorted((a, b) => Number(b.role === 'globals') - Number(a.role === 'globals'))
  return listed === null ? chosen : chosen.filter(({ name }) => listed.some(each => isOf(name, each)))
}

function isOf(name: string, path: string): boolean {
  return path === name || path.startsWith(`${name}/`)
}

/** The names of what is in an archive of ours; null for others. */
function listedIn({ source }: Manifest): string[] | null {
  const { members } = source.options as { members?: readonly { member: string }[] }
  return members ? members.map(({ member }) => member) : null
}

/** A member, and its first bytes; none where nobody has read it yet. */
interface Planned {
  readonly member: RestorableMember
  readonly head: Buffer
}

/** Throws one Failure for all members that cannot be brought back. */
async function planOf(
  manifest: Manifest,
  members: readonly Planned[],
  pick: Selection,
  ctx: Context,
): Promise<RestorePlan> {
  const plans: RestorePlan[] = []
  const failures: Failure[] = []
  for (const { member, head } of members) {
    const by = member.by(head)
    try {
      plans.push(await by.restorer.plan([manifestOf(manifest, member, by, 0)], { allow: pick.allow }, ctx))
    } catch (error) {
      ctx.signal.throwIfAborted()
      failures.push(asFailure(error, `cannot restore ${member.name}`))
    }
  }
  if (failures.length > 0) throw together(failures)
  return {
    target: plans.map(({ target }) => target).join(', '),
    steps: plans.flatMap(({ steps }, index) => steps.map(step => `${members[index]?.member.name}: ${step}`)),
    replaces: plans.flatMap(({ replaces }) => replaces),
    warnings: plans.flatMap(({ warnings }) => warnings),
  }
}

/** What of the members is in the archive. */
async function extracted(members: readonly RestorableMember[], dir: string): Promise<Planned[]> {
  const there = members.filter(({ name }) => existsSync(join(dir, name)))
  return await Promise.all(
    there.map(async member => ({ member, head: await headOf(join(dir, member.name)) })),
  )
}

function together(failures: readonly Failure[]): Failure {
  const [first, second] = failures
  if (first && !second) return first
  return new Failure({
    what: 'cannot restore the archive, and nothing was touched',
    why: failures.map(({ message }) => message).join('; '),
    remedy: [...new Set(failures.map(({ remedy }) => remedy))].filter(Boolean).join('; '),
    exit: worstExit(failures.map(({ exit }) => exit)),
    cause: first,
  })
}

/** The manifest of a member as a backup of its own. */
function manifestOf(
  manifest: Manifest,
  member: RestorableMember,
  { engine, media }: ReturnType<RestorableMember['by']>,
  bytes: number,
): Manifest {
  const { unit, role, artifact, options } = member
  const record: ArtifactRecord = {
    ...{ name: artifact, media, role, stages: [], undo: '' },
    plain: { bytes: null, sha256: null },
    stored: { bytes, sha256: null },
    objects: [{ key: member.name, bytes, sha256: null }],
  }
  return {
    ...manifest,
    unit,
    kind: engine === 'files' ? 'files' : 'logical',
    source: { ...manifest.source, engine, options },
    artifacts: [record],
    census: null,
  }
}

/** The files of a member that is a folder, as artifacts that are called as in that folder. */
async function filesIn(
  dir: string,
  { name }: RestorableMember,
  { artifacts: [record] }: Manifest,
): Promise<ArtifactRecord[]> {
  const found = await readdir(join(dir, name), { recursive: true, withFileTypes: true })
  const paths = found
    .filter(each => each.isFile())
    .map(each => relative(join(dir, name), join(each.parentPath, each.name)))
    .sort()
  return paths.flatMap(path =>
    record ? { ...record, name: path, objects: [{ key: join(name, path), bytes: 0, sha256: null }] } : [],
  )
}

async function extract(manifest: Manifest, dir: string, read: ArtifactReader, ctx: Context): Promise<void> {
  const [record] = manifest.artifacts.filter(({ role }) => role === 'data')
  if (!record) throw usage('cannot restore', 'the backup holds no archive')
  const remedy = 'set CAIRN_SPOOL to a folder on a larger disk'
  await needSpace(dir, record.plain.bytes ?? record.stored.bytes, 'cannot extract the archive', remedy)
  const program: Program = {
    program: 'tar',
    endsEarly: true,
    args: [
      '--extract',
      '--read-full-records',
      '--file=-',
      `--directory=${dir}`,
      '--no-same-owner',
      '--no-same-permissions',
    ],
    judge: (exit, tail) =>
      exit.code === 0
        ? null
        : new Failure({ what: 'cannot extract the archive', why: describeExit(exit, tail), remedy }),
  }
  await read.into(record, program)
  ctx.signal.throwIfAborted()
}

async function bringBack(
  manifest: Manifest,
  members: readonly RestorableMember[],
  dir: string,
  pick: Selection,
  replace: boolean,
  ctx: Context,
): Promise<RestoreReport> {
  const reports: RestoreReport[] = []
  const failures: { name: string; failure: Failure }[] = []
  const warnings: string[] = []
  for (const member of members) {
    if (!existsSync(join(dir, member.name))) {
      warnings.push(`${member.name} is not in the archive`)
      continue
    }
    try {
      const { size } = await stat(join(dir, member.name))
      const by = member.by(await headOf(join(dir, member.name)))
      const whole = manifestOf(manifest, member, by, size)
      const inner = member.isFolder ? { ...whole, artifacts: await filesIn(dir, member, whole) } : whole
      const reader = localReader(dir, member.undo, ctx)
      reports.push(await by.restorer.apply([inner], { allow: pick.allow }, replace, reader, ctx))
    } catch (error) {
      ctx.signal.throwIfAborted()
      failures.push({ name: member.name, failure: asFailure(error, `cannot restore ${member.name}`) })
    }
  }
  for (const name of await readdir(dir))
    if (pick.only === undefined && !members.some(member => isOf(name, member.name)))
      warnings.push(`${name} is in the archive, and no member of the job: nothing was done with it`)
  if (failures.length > 0) throw partly(reports, failures)
  const sum = (counts: (number | null)[]): number | null =>
    counts.every(count => count === null)
      ? null
      : counts.reduce<number>((total, count) => total + (count ?? 0), 0)
  return {
    target: reports.map(({ target }) => target).join(', '),
    objects: sum(reports.map(({ objects }) => objects)),
    rows: sum(reports.map(({ rows }) => rows)),
    warnings: [...warnings, ...reports.flatMap(report => report.warnings)],
  }
}

function partly(
  reports: readonly RestoreReport[],
  failures: readonly { name: string; failure: Failure }[],
): Failure {
  const done = reports.map(({ target }) => target).join(', ')
  const [first] = failures
  return new Failure({
    what: `cannot restore ${failures.map(({ name }) => name).join(', ')}`,
    why: failures.map(({ failure }) => failure.message).join('; '),
    remedy: [done && `restored were ${done}`, first?.failure.remedy].filter(Boolean).join('; '),
    exit: reports.length > 0 ? exitCode.partial : (first?.failure.exit ?? exitCode.failed),
    cause: first?.failure,
  })
}

async function headOf(path: string): Promise<Buffer> {
  if ((await stat(path)).isDirectory()) return Buffer.alloc(0)
  const chunks = createReadStream(path, { end: 511 })
  return Buffer.concat(await chunks.toArray())
}

/** Reads members from where the archive was extracted. A folder is read as a tar of it. */
function localReader(dir: string, undo: readonly Step[], ctx: Context): ArtifactReader {
  const source = async (record: ArtifactRecord): Promise<Program | Bytes> => {
    const path = join(dir, record.objects[0]?.key ?? '')
    if (!(await stat(path)).isDirectory()) return createReadStream(path, { highWaterMark: 1024 * 1024 })
    // The table of contents comes first, for who reads it as a stream.
    const names = (await readdir(path)).sort((a, b) => Number(b === 'toc.dat') - Number(a === 'toc.dat'))
    return { program: 'tar', args: ['--create', '--file=-', `--directory=${path}`, '--', ...names] }
  }
  return {
    async *open(record) {
      yield* flow(await source(record), [...undo], ctx)
    },
    into: async (record, sink, framing, through = []) =>
      await pour(await source(record), [...undo, ...through], sink, ctx, framing),
  }
}

/** An archive is a tar: `files` puts it into a folder of the backup's name. */
export function unpackingRestorer(files: Restorer): Restorer {
  const asFiles = (chain: readonly Manifest[]): Manifest[] => {
    const manifest = mine(chain)
    const [record] = manifest.artifacts.filter(({ role }) => role === 'data')
    if (!record) throw usage('cannot restore', 'the backup holds no archive')
    const name = `files/${manifest.unit.replaceAll('/', '-')}.tar`
    const source = { ...manifest.source, engine: 'files', options: {} }
    return [{ ...manifest, source, kind: 'files', artifacts: [{ ...record, name, media: 'tar' }] }]
  }
  return {
    plan: (chain, pick, ctx) => files.plan(asFiles(chain), pick, ctx),
    apply: (chain, pick, replace, read, ctx, ready) =>
      files.apply(asFiles(chain), pick, replace, read, ctx, ready),
  }
}
