import type { Context } from '../../model/context.ts'
import { asFailure, type Failure } from '../../model/failure.ts'
import type { Artifact, Census, CensusLevel, Session, Source, SourceFacts } from '../../model/source.ts'
import type { Step } from '../../model/step.ts'
import { needProgram } from '../../platform/program.ts'
import { beforeStall, explained } from '../../platform/stall.ts'
import { listable } from './list.ts'
import { type Members, membersIn, type Packed } from './pack.ts'

/** A source whose artifacts become members of an archive. */
export interface ArchiveMember {
  /** The name of the member; of a source that yields several, the folder that holds them. */
  readonly name: string
  readonly source: Source
  readonly isFolder: boolean
  /** Whether its absence is a warning only. */
  readonly optional: boolean
  /** Whether there is no archive without it. */
  readonly required?: boolean
  /** What the bytes go through before they are put into the archive. */
  readonly steps: readonly Step[]
}

/** The name of the one artifact. */
const archiveName = 'archive.tar'

/**
 * Several sources as one ordinary tar, and so one unit: for those who want one file with everything. Their sessions are
 * opened in the order given and held until the last of them is read. A tar says a member's size before its bytes, so all are
 * spooled first; the archive is made when the sources were let go.
 *
 * What cannot be read is left out, and told in `missing`: the rest is worth more than nothing. Throws when nothing is left,
 * or when a member is lost that is required.
 */
export function archiveSource(name: string, members: readonly ArchiveMember[]): Source {
  return {
    engine: 'archive',
    async inspect(ctx) {
      // Not only when everything was read.
      needProgram('tar', 'install GNU tar')
      const parts = await Promise.all(members.map(member => inspected(member, ctx)))
      const there = parts.flatMap(part => ('failure' in part ? [] : [part]))
      const failures = parts.map(part => ('failure' in part ? part.failure : null))
      const first = failures.find((failure, index) => failure && members[index]?.required)
      const any = failures.find(failure => failure !== null)
      if (first) throw first
      if (there.length === 0 && any) throw any
      return {
        // Where its parts come from may change; the archive is the one of that name.
        identity: `archive:${name}`,
        version: [...new Set(there.map(({ version }) => version).filter(Boolean))].join(', '),
        units: [{ name }],
        estimate: there.reduce((sum, { estimate }) => sum + estimate, 0),
        advice: there.flatMap(({ advice = [] }) => advice),
      }
    },
    async check(_unit, ctx) {
      const expected = members.filter(({ optional }) => !optional)
      return (await Promise.all(expected.map(({ source }) => hindrances(source, ctx)))).flat()
    },
    open: (_unit, _parent, level, ctx) => openAll(members, level, ctx),
    async whySilent(ctx) {
      const reasons = await Promise.all(members.map(({ source }) => source.whySilent?.(ctx) ?? ''))
      return reasons.filter(reason => reason !== '').join('; ')
    },
  }
}

async function inspected({ source }: ArchiveMember, ctx: Context) {
  try {
    return await source.inspect(ctx)
  } catch (error) {
    ctx.signal.throwIfAborted()
    return { failure: asFailure(error, 'cannot look at a part of the archive') }
  }
}

/** Why a backup of this source would fail or lack a part. */
async function hindrances(source: Source, ctx: Context): Promise<Failure[]> {
  try {
    const { units } = await source.inspect(ctx)
    return (await Promise.all(units.map(unit => source.check?.(unit, ctx) ?? []))).flat()
  } catch (error) {
    ctx.signal.throwIfAborted()
    return [asFailure(error, 'cannot look at a part of the archive')]
  }
}

/** A member whose session is open. */
interface Part {
  readonly member: ArchiveMember
  readonly session: Session
}

/** What is not in the archive, and why. */
interface Missing {
  readonly member: ArchiveMember
  readonly failure: Failure
}

async function openAll(
  members: readonly ArchiveMember[],
  level: CensusLevel,
  ctx: Context,
): Promise<Session> {
  const parts: Part[] = []
  const missing: Missing[] = []
  const losses = new Map(members.map(member => [member, Promise.withResolvers<null>()]))
  const lose = (member: ArchiveMember, error: unknown): void => {
    ctx.signal.throwIfAborted()
    const failure = asFailure(error, `${member.name} is not in the archive`)
    if (member.required) throw failure
    missing.push({ member, failure })
    losses.get(member)?.resolve(null)
  }
  try {
    for (const member of members) {
      try {
        const { units } = await member.source.inspect(ctx)
        for (const unit of units)
          parts.push({ member, session: await member.source.open(unit, null, level, ctx) })
      } catch (error) {
        lose(member, error)
      }
    }
    if (parts.length === 0 && missing[0]) throw missing[0].failure
  } catch (error) {
    await disposeAll(parts)
    throw error
  }
  const spooled = membersIn(ctx.spool)
  let facts: SourceFacts | null = null
  let counting: Promise<unknown> = Promise.resolve()
  return {
    concurrency: 1,
    async *artifacts() {
      try {
        for (const part of parts) await spool(part, spooled, lose, ctx)
        // Whoever has said its last word cannot be asked any more.
        await beforeStall(counting, ctx, () => 'the census').catch(() => {})
        facts = await finish(parts, missing, spooled, lose, ctx)
        const program = await spooled.tar()
        const sizeHint = spooled.packed.reduce((sum, { bytes }) => sum + bytes, 0)
        yield { name: archiveName, media: 'archive', role: 'data', sizeHint, open: () => program, spooled }
      } catch (error) {
        await spooled[Symbol.asyncDispose]()
        throw error
      }
    },
    census() {
      const census = censusOf(parts, member => losses.get(member)?.promise)
      counting = census
      return census
    },
    async finish() {
      if (facts) return facts
      throw new Error('the members have not been read')
    },
    [Symbol.asyncDispose]: () => disposeAll(parts),
  }
}

/** Brings what a session yields into the spool. */
async function spool(
  { member, session }: Part,
  spooled: Members,
  lose: (member: ArchiveMember, error: unknown) => void,
  ctx: Context,
): Promise<void> {
  const artifacts = session.artifacts()[Symbol.asyncIterator]()
  try {
    for (;;) {
      const next = await artifacts.next()
      if (next.done) return
      const name = nameIn(member, next.value)
      await spooled.add(name, next.value, member.steps, ctx).catch(async error => {
        lose(member, await explained(error, member.source, ctx))
      })
    }
  } catch (error) {
    lose(member, error)
  } finally {
    await artifacts.return?.()
  }
}

function nameIn(member: ArchiveMember, artifact: Artifact): string {
  return member.isFolder ? `${member.name}/${artifact.name}` : member.name
}

const levels: readonly CensusLevel[] = ['none', 'objects', 'counts']

/**
 * As exact as the least exact of those that have one. Some know theirs when they were read to their end: of those that are
 * lost before, nothing is told.
 */
async function censusOf(
  parts: readonly Part[],
  lossOf: (member: ArchiveMember) => Promise<null> | undefined,
): Promise<Census> {
  const taken = await Promise.all(
    parts.map(async ({ member, session }) => {
      const counting = session.census().catch(() => null)
      return { member, census: await Promise.race([counting, lossOf(member) ?? counting]) }
    }),
  )
  const known = taken.flatMap(({ member, census }) => (census ? [{ member, census }] : []))
  const found = known.map(({ census }) => levels.indexOf(census.level)).filter(level => level > 0)
  const level = levels[found.length === 0 ? 0 : Math.min(...found)] ?? 'none'
  return {
    level,
    at: known.every(({ census }) => census.at === 'snapshot') ? 'snapshot' : 'near',
    objects: known.flatMap(({ member, census }) =>
      census.objects.map(({ name, rows }) => ({
        name: `${member.name}: ${name}`,
        rows: level === 'counts' ? rows : null,
      })),
    ),
    unseen: known.flatMap(({ census }) => census.unseen),
  }
}

/** A session may take back what it gave, or what is left of it: that cannot be trusted, and is left out. */
async function finish(
  parts: readonly Part[],
  missing: readonly Missing[],
  spooled: Members,
  lose: (member: ArchiveMember, error: unknown) => void,
  ctx: Context,
): Promise<SourceFacts> {
  const all: SourceFacts[] = []
  for (const { member, session } of parts) {
    const isLost = missing.some(each => each.member === member)
    if (isLost && !spooled.packed.some(each => isOf(member, each))) continue
    try {
      all.push(await beforeStall(session.finish(), ctx, () => member.name))
    } catch (error) {
      ctx.signal.throwIfAborted()
      // Why a part of it is missing has been said.
      if (!isLost) lose(member, error)
      await spooled.remove(spooled.packed.flatMap(each => (isOf(member, each) ? [each.member] : [])))
    }
  }
  const isWhole = parts.some(({ member }) => missing.every(each => each.member !== member))
  if (!isWhole && missing[0]) throw missing[0].failure
  for (const { member, failure } of missing) if (member.optional) warnOf(member.name, failure, ctx)
  const now = ctx.clock.now()
  const told = missing.map(({ member, failure }) => ({
    what: `${failure.what}: ${failure.why}`,
    path: member.name,
  }))
  return {
    kind: 'logical',
    capturedAt: earliest(all.map(facts => facts.capturedAt)) ?? now,
    consistentAt: now,
    client: [...new Set(all.map(facts => facts.client).filter(Boolean))].join(', '),
    options: { members: listable(spooled.packed, foldersOf(parts)) },
    warnings: [...told, ...all.flatMap(facts => facts.warnings)],
    missing: missing.filter(({ member }) => !member.optional).map(({ failure }) => failure),
  }
}

/** What is not optional is told as a failure, by whoever stores the archive. */
function warnOf(name: string, { message, remedy }: Failure, ctx: Context): void {
  ctx.emit({ type: 'warning', what: `${name} is not in the archive, and is optional`, why: message, remedy })
}

function foldersOf(parts: readonly Part[]): string[] {
  return parts.filter(({ member }) => member.isFolder).map(({ member }) => member.name)
}

function isOf({ name }: ArchiveMember, { member }: Packed): boolean {
  return member === name || member.startsWith(`${name}/`)
}

function earliest(dates: readonly Date[]): Date | null {
  return dates.length === 0 ? null : new Date(Math.min(...dates.map(date => date.getTime())))
}

async function disposeAll(parts: readonly Part[]): Promise<void> {
  // One that throws, though none should, must not keep the others open.
  await Promise.allSettled(parts.toReversed().map(async ({ session }) => session[Symbol.asyncDispose]()))
}
