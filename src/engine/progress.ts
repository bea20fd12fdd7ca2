import type { Context } from '../model/context.ts'

const everyMs = 250

/** Reports how far an artifact is: at once, then every quarter of a second at most; `done` reports the last state. */
export function progress(artifact: string, ctx: Context, state: () => Omit<Progress, 'type' | 'artifact'>) {
  let reported = Number.NEGATIVE_INFINITY
  const report = (): void => {
    reported = performance.now()
    ctx.emit({ type: 'progress', artifact, ...state() })
  }
  return {
    report(): void {
      if (performance.now() - reported >= everyMs) report()
    },
    done: report,
  }
}

type Progress = Extract<Parameters<Context['emit']>[0], { type: 'progress' }>
