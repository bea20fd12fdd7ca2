import { randomBytes } from 'node:crypto'
import { appendFileSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { clockToleranceMs } from '../engine/retention.ts'
import type { RunEvent } from '../model/event.ts'
import type { ExitCode } from '../model/failure.ts'
import { newId } from '../model/key.ts'
import { makePathSync } from '../platform/make-path.ts'
import { startTime } from '../platform/private-dir.ts'
import type { State } from '../platform/state.ts'
import { logLine } from './log-line.ts'

/** What made a run begin. */
export type Trigger = 'command' | 'schedule' | 'missed' | 'once'

/** How a run ended. */
export interface RunEnd {
  readonly exit: ExitCode
  readonly backups: readonly {
    readonly id: string
    readonly unit: string
    readonly stores: readonly string[]
    /** A part of the unit is not in it. */
    readonly isIncomplete?: true
  }[]
  readonly failures: readonly { readonly what: string; readonly why: string; readonly remedy: string }[]
  /** All units of the job, where every source could be asked for them, whatever became of them. */
  readonly units?: readonly string[]
  /** What retention did afterwards; null when it was not its turn. */
  readonly prune: 'done' | 'failed' | null
}

/** A run as the state folder tells of it. */
export interface RunRecord {
  readonly id: string
  readonly job: string
  readonly trigger: Trigger
  readonly startedAt: Date
  /** Null while it goes on, or when its process was killed. */
  readonly end: (RunEnd & { readonly at: Date }) | null
  readonly isRunning: boolean
}

/** The log of a run that goes on: JSON lines in a file of its own. */
export interface RunLog {
  readonly id: string
  /** Progress is left out. Never throws: a full disk must not fail a backup; `fault` tells then. */
  note(event: RunEvent, at: Date): void
  /** The log so far as lines for a person. */
  text(): string
  end(end: RunEnd, at: Date): void
  /** Why the log is not whole, or null. */
  fault(): string | null
}

/** So many runs of a job are kept, and none for longer than this; the newest always. */
const keptRuns = 100
const keptMs = 90 * 24 * 3_600_000
/** A log that grows beyond this is cut; how the run ended is always written. */
const logBytes = 1_000_000

/** Begins the record of a run, and lets old ones go. The events it is given hold no secret any more. */
export function openRun(state: State, job: string, trigger: Trigger, startedAt: Date): RunLog {
  const folder = folderOf(state)
  const id = newId(startedAt, randomBytes(5))
  const file = join(folder, `${id}.${job}.jsonl`)
  let fault: string | null = null
  let size = 0
  const lines: string[] = []
  const write = (value: object): void => {
    try {
      const line = `${JSON.stringify(value)}\n`
      size += line.length
      appendFileSync(file, line, { mode: 0o600 })
    } catch (error) {
      fault ??= (error as Error).message
    }
  }
  try {
    makePathSync(folder)
    forgetOld(folder, job, startedAt)
  } catch (error) {
    fault = (error as Error).message
  }
  const process_ = { pid: process.pid, started: startTime(process.pid), host: hostname() }
  write({ cairn: 1, type: 'run', at: startedAt.toISOString(), id, job, trigger, process: process_ })
  return {
    id,
    fault: () => fault,
    text: () => lines.join('\n'),
    note(event, at) {
      const line = logLine(event, at)
      if (line === null || size > logBytes) return
      lines.push(line)
      write({ at: at.toISOString(), ...event })
      if (size > logBytes) {
        lines.push('the log was cut here')
        write({ at: at.toISOString(), type: 'notice', text: 'the log was cut here' })
      }
    },
    end: (end, at) => write({ type: 'end', at: at.toISOString(), ...end }),
  }
}

function folderOf(state: State): string {
  return join(state.path, 'runs')
}

/** The files of a folder, newest first: ids sort by their second, within one the file that was written to last is the newest. */
function filesOf(folder: string, job: string | null): { file: string; id: string; job: string }[] {
  let names: string[]
  try {
    names = readdirSync(folder)
  } catch {
    return []
  }
  return names
    .flatMap(name => {
      const [, id = '', of = ''] = /^(\d{8}T\d{6}Z-[a-z2-7]{8})\.(.+)\.jsonl$/.exec(name) ?? []
      return id && (job === null || job === of) ? [{ file: join(folder, name), id, job: of }] : []
    })
    .sort((a, b) => {
      const [one, other] = [secondOf(a), secondOf(b)]
      return one === other ? changed(b) - changed(a) : one < other ? 1 : -1
    })
}

function secondOf({ id }: { id: string }): string {
  return id.slice(0, 16)
}

function changed({ file }: { file: string }): number {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0
}

function forgetOld(folder: string, job: string, now: Date): void {
  const oldest = newId(new Date(now.getTime() - keptMs), Buffer.alloc(5))
  for (const [index, { file, id }] of filesOf(folder, job).entries())
    if (index > 0 && (index >= keptRuns - 1 || id < oldest)) rmSync(file, { force: true })
}

/** The runs of a job, or of all, newest first. A file that cannot be read is passed over. */
export function listRuns(state: State, job: string | null): RunRecord[] {
  return filesOf(folderOf(state), job).flatMap(({ file }) => recordIn(file) ?? [])
}

/** The newest run of a job, as of a time: what is from the future, by a clock that was wrong, is none; null when it has none. */
export function lastRun(state: State, job: string, now: Date): RunRecord | null {
  const until = now.getTime() + clockToleranceMs
  for (const { file } of filesOf(folderOf(state), job)) {
    const record = recordIn(file)
    if (record && record.startedAt.getTime() <= until) return record
  }
  return null
}

/**
 * The units that a job has, by the last run of this host that could tell, and when each was first in one; null when none could.
 */
export function knownUnits(
  state: State,
  jobs: readonly string[],
  until: Date,
): ReadonlyMap<string, Date> | null {
  const told = jobs
    .flatMap(job => filesOf(folderOf(state), job))
    .flatMap(({ file }) => recordIn(file) ?? [])
    .filter(({ startedAt, end }) => end?.units && startedAt <= until)
    .sort((a, b) => b.startedAt.getTime() - a.startedAt.getTime())
  const units = told[0]?.end?.units
  if (!units) return null
  const first = (unit: string): Date =>
    told.findLast(({ end }) => end?.units?.includes(unit))?.startedAt ?? until
  return new Map(units.map(unit => [unit, first(unit)]))
}

/** When a run last left a whole copy in that store, of that unit or of any, not after `until`, as far as this host's own records go. */
export function lastGoodRun(
  state: State,
  jobs: readonly string[],
  store: string,
  until: Date,
  unit: string | null = null,
): Date | null {
  const ends = jobs.flatMap(job => {
    for (const { file } of filesOf(folderOf(state), job)) {
      const end = recordIn(file)?.end
      if (
        end &&
        end.at <= until &&
        end.backups.some(
          each => !each.isIncomplete && each.stores.includes(store) && (unit === null || each.unit === unit),
        )
      )
        return [end.at.getTime()]
    }
    return []
  })
  return ends.length > 0 ? new Date(Math.max(...ends)) : null
}

/** The lines of a run's log: its id, or an unambiguous beginning of one. Null when there is no such run, or several. */
export function readRun(state: State, handle: string): { record: RunRecord; lines: unknown[] } | null {
  const [match, second] = filesOf(folderOf(state), null).filter(({ id }) => id.startsWith(handle))
  const record = match && !second ? recordIn(match.file) : null
  return match && record ? { record, lines: linesIn(match.file) } : null
}

function recordIn(file: string): RunRecord | null {
  const lines = linesIn(file)
  const [first] = lines as [
    { type?: string; id: string; job: string; trigger: Trigger; at: string; process: Owner }?,
  ]
  // On a full disk the first line may be lost, and others not.
  if (first?.type !== 'run') return null
  // What comes after the end is about telling others.
  const last = lines.findLast(line => (line as { type?: string }).type === 'end') as
    | (RunEnd & { at: string })
    | undefined
  const end = last ? { ...last, at: new Date(last.at) } : null
  return {
    id: first.id,
    job: first.job,
    trigger: first.trigger,
    startedAt: new Date(first.at),
    end,
    isRunning: end === null && isAlive(first.process),
  }
}

interface Owner {
  readonly pid: number
  readonly started: string
  readonly host: string
}

/** Of another host's process (a container that was replaced) nobody knows; it counts as gone. */
function isAlive({ pid, started, host }: Owner): boolean {
  return host === hostname() && startTime(pid) === started
}

/** A line that a killed process left half-written is no line. */
function linesIn(file: string): unknown[] {
  try {
    return readFileSync(file, 'utf8')
      .split('\n')
      .flatMap(line => {
        try {
          return line === '' ? [] : [JSON.parse(line) as unknown]
        } catch {
          return []
        }
      })
  } catch {
    return []
  }
}
