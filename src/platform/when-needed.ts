import type { Restorer } from '../model/restore.ts'
import type { Source } from '../model/source.ts'

/** A source whose code is loaded at its first use: whoever starts Cairn pays for the engines that are used. */
export function sourceWhenNeeded(engine: string, load: () => Promise<Source>): Source {
  let loaded: Promise<Source> | null = null
  const source = (): Promise<Source> => (loaded ??= load())
  return {
    engine,
    inspect: async ctx => (await source()).inspect(ctx),
    open: async (...args) => (await source()).open(...args),
    check: async (unit, ctx) => (await (await source()).check?.(unit, ctx)) ?? [],
    whySilent: async ctx => (loaded ? ((await (await loaded).whySilent?.(ctx)) ?? '') : ''),
  }
}

/** The same of what brings backups back; `abilities` is what has to be known of it before. */
export function restorerWhenNeeded(
  abilities: Pick<Restorer, 'options' | 'picksInside'>,
  load: () => Promise<Pick<Restorer, 'plan' | 'apply'>>,
): Restorer {
  return {
    ...abilities,
    plan: async (...args) => (await load()).plan(...args),
    apply: async (...args) => (await load()).apply(...args),
  }
}
