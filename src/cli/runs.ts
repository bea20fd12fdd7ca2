import { logLine } from '../daemon/log-line.ts'
import { listRuns, type RunRecord, readRun } from '../daemon/run-record.ts'
import type { RunEvent } from '../model/event.ts'
import { type ExitCode, exitCode, usage } from '../model/failure.ts'
import { showDuration } from '../model/quantity.ts'
import { type Global, isoLocal, out, outJson, say, showTime, table } from './io.ts'
import { withApp } from './work.ts'

/** `cairn runs [JOB|ID]`: the runs that the state folder remembers, or the log of one. */
export function run(handle: string | undefined, options: Global): Promise<ExitCode> {
  return withApp(options, async ({ app }) => {
    // Names of jobs have no upper case.
    if (handle && /^\d{8}T/.test(handle)) return showLog(app.state, handle, options)
    if (handle) app.jobNames([handle])
    const runs = listRuns(app.state, handle ?? null)
    if (options.json) await outJson(runs.map(toJson))
    else if (runs.length === 0) say(handle ? `no run of ${handle} yet` : 'no run yet')
    else await out(toTable(runs))
    return exitCode.ok
  })
}

/** A line of a log; the first and the last are about the run itself. */
type Line = { readonly at: string } & (RunEvent | { readonly type: 'run' } | { readonly type: 'end' })

async function showLog(
  state: Parameters<typeof readRun>[0],
  handle: string,
  options: Global,
): Promise<ExitCode> {
  const found = readRun(state, handle)
  if (!found)
    throw usage(
      `there is no run "${handle}", or there are several`,
      'runs are kept for 90 days',
      'cairn runs',
    )
  const { record, lines } = found
  if (options.json) {
    await outJson({ ...toJson(record), log: lines.slice(1) })
    return exitCode.ok
  }
  const text = lines.flatMap(line => {
    const { at, ...event } = line as Line
    return event.type === 'run' || event.type === 'end' ? [] : (logLine(event, new Date(at)) ?? [])
  })
  await out([`${record.job}, ${record.trigger}, ${outcomeOf(record)}`, ...text].join('\n'))
  return exitCode.ok
}

function outcomeOf({ end, isRunning }: RunRecord): string {
  if (!end) return isRunning ? 'running' : 'killed'
  const prune = end.prune === 'failed' ? ', pruning failed' : ''
  return (end.exit === 0 ? 'ok' : `exit ${end.exit}`) + prune
}

function toTable(runs: readonly RunRecord[]): string {
  const rows = runs.map(run => [
    run.id,
    run.job,
    showTime(run.startedAt),
    run.end ? showDuration(run.end.at.getTime() - run.startedAt.getTime()) : '',
    run.trigger,
    outcomeOf(run),
    run.end?.failures[0] ? firstLine(`${run.end.failures[0].what}: ${run.end.failures[0].why}`) : '',
  ])
  return table(['ID', 'JOB', 'STARTED', 'TOOK', 'BECAUSE', 'OUTCOME', ''], rows)
}

function firstLine(text: string): string {
  const [line = ''] = text.split('\n')
  return line.length > 100 ? `${line.slice(0, 99)}…` : line
}

function toJson({ id, job, trigger, startedAt, end, isRunning }: RunRecord) {
  return {
    cairn: 1,
    id,
    job,
    trigger,
    startedAt: isoLocal(startedAt),
    finishedAt: end ? isoLocal(end.at) : null,
    running: isRunning,
    exit: end?.exit ?? null,
    backups: end?.backups ?? [],
    failures: end?.failures ?? [],
    prune: end?.prune ?? null,
  }
}
