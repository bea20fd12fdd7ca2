import type { Context } from '../model/context.ts'
import { asFailure, Failure } from '../model/failure.ts'
import type { Artifact, Census, CensusLevel, Session, Source, SourceFacts, Unit } from '../model/source.ts'

/**
 * Several sources as one unit: what they yield restores together. Their sessions are opened in the order given and
 * held until the last artifact of all is read, each unit of each source with one. Names stay as they are; a second artifact of
 * the same name gets `-2`.
 */
export function together(name: string, sources: readonly Source[]): Source {
  const engines = new Set(sources.map(source => source.engine))
  const [only = 'together'] = engines.size === 1 ? engines : []
  return {
    engine: only,
    async inspect(ctx) {
      const parts = await inOrder(sources, source => source.inspect(ctx))
      return {
        identity: `together:${parts.map(part => part.identity).join(' + ')}`,
        version: [...new Set(parts.map(part => part.version))].join(', '),
        units: [{ name }],
        estimate: parts.reduce((sum, part) => sum + part.estimate, 0),
      }
    },
    open: (_unit, _parent, level, ctx) => openAll(sources, level, ctx),
    async whySilent(ctx) {
      const reasons = await inOrder(sources, async source => (await source.whySilent?.(ctx)) ?? '')
      return reasons.filter(reason => reason !== '').join('; ')
    },
  }
}

/** One opened session and where it comes from. */
interface Part {
  readonly source: Source
  readonly unit: Unit
  readonly session: Session
  /** The names its artifacts have in the backup. */
  readonly names: string[]
}

/** Throws what the first one throws that cannot be opened, after those before it were disposed. */
async function openAll(sources: readonly Source[], level: CensusLevel, ctx: Context): Promise<Session> {
  const parts: Part[] = []
  try {
    for (const source of sources) {
      for (const unit of (await source.inspect(ctx)).units) {
        parts.push({ source, unit, session: await source.open(unit, null, level, ctx), names: [] })
      }
    }
  } catch (error) {
    await disposeAll(parts, ctx)
    throw error
  }
  return {
    // What one session cannot do at once, all of them cannot.
    concurrency: Math.min(...parts.map(part => part.session.concurrency)),
    artifacts: () => allArtifacts(parts),
    census: async () => mergedCensus(await Promise.all(parts.map(part => part.session.census()))),
    finish: async () => mergedFacts(parts, await inOrder(parts, part => part.session.finish())),
    [Symbol.asyncDispose]: () => disposeAll(parts, ctx),
  }
}

async function* allArtifacts(parts: readonly Part[]): AsyncGenerator<Artifact, void, undefined> {
  const taken = new Set<string>()
  for (const part of parts) {
    for await (const artifact of part.session.artifacts()) {
      const name = untaken(artifact.name, taken)
      part.names.push(name)
      yield { ...artifact, name, open: ctx => artifact.open(ctx) }
    }
  }
}

/** `files/data.tar`, then `files/data-2.tar`. */
function untaken(name: string, taken: Set<string>): string {
  const dot = name.lastIndexOf('.')
  const end = dot > name.lastIndexOf('/') + 1 ? dot : name.length
  let free = name
  for (let n = 2; taken.has(free); n++) free = `${name.slice(0, end)}-${n}${name.slice(end)}`
  taken.add(free)
  return free
}

const levels: readonly CensusLevel[] = ['none', 'objects', 'counts']

/** As exact as the least exact of them. */
function mergedCensus(all: readonly Census[]): Census {
  const level = levels[Math.min(...all.map(census => levels.indexOf(census.level)))] ?? 'none'
  const taken = new Set<string>()
  return {
    level,
    at: all.every(census => census.at === 'snapshot') ? 'snapshot' : 'near',
    objects: all
      .flatMap(census => census.objects)
      .map(({ name, rows }) => ({ name: untaken(name, taken), rows: level === 'counts' ? rows : null })),
    unseen: all.flatMap(census => census.unseen),
  }
}

function mergedFacts(parts: readonly Part[], all: readonly SourceFacts[]): SourceFacts {
  if (all.some(facts => facts.chain)) {
    throw new Failure({
      what: 'cannot back up these together',
      why: 'one of them builds upon an earlier backup',
      remedy: 'give it a job of its own',
    })
  }
  const kinds = new Set(all.map(facts => facts.kind))
  const [kind = 'logical'] = kinds.size === 1 ? kinds : []
  return {
    kind,
    capturedAt: new Date(Math.min(...all.map(facts => facts.capturedAt.getTime()))),
    consistentAt: new Date(Math.max(...all.map(facts => facts.consistentAt.getTime()))),
    client: [...new Set(all.map(facts => facts.client))].join(', '),
    options: {
      sources: parts.map(({ source, unit, names }, index) => ({
        engine: source.engine,
        unit: unit.name,
        artifacts: names,
        options: all[index]?.options ?? {},
      })),
    },
    warnings: all.flatMap(facts => facts.warnings),
  }
}

/** The last opened first. One that throws, which none should, keeps no other from being disposed. */
async function disposeAll(parts: readonly Part[], ctx: Context): Promise<void> {
  for (const { source, session, unit } of parts.toReversed()) {
    try {
      await session[Symbol.asyncDispose]()
    } catch (error) {
      const { why } = asFailure(error, '')
      ctx.emit({
        type: 'warning',
        what: `${source.engine} was not closed properly`,
        why,
        remedy: '',
        unit: unit.name,
      })
    }
  }
}

async function inOrder<T, R>(items: readonly T[], each: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  for (const item of items) results.push(await each(item))
  return results
}
