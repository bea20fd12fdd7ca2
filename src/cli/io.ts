import { styleText } from 'node:util'
import { asFailure, type ExitCode, exitCode, Failure, usage } from '../model/failure.ts'
import { mask } from '../model/secret.ts'
import { secretsRead } from '../platform/secret-source.ts'
import { systemFailure } from '../platform/system-error.ts'
import { endProcess } from './end.ts'
import { appendToLog } from './log-file.ts'

/** What a person asked for on the command line, whatever the command. */
export interface Global {
  readonly config?: string
  readonly json?: boolean
  readonly quiet?: boolean
  readonly verbose?: boolean
  readonly stall?: string
}

/** Results go to stdout. Resolves when the text was taken, so that a slow pipe loses nothing, or its reader has gone. */
export function out(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text.endsWith('\n') ? text : `${text}\n`, error =>
      error && (error as NodeJS.ErrnoException).code !== 'EPIPE' ? reject(unwritten(error)) : resolve(),
    )
  })
}

/** What was done stays done: only its result is lost. */
function unwritten(error: Error): Failure {
  const what = 'cannot write the result to stdout'
  return systemFailure(error, what) ?? asFailure(error, what)
}

export function outJson(value: unknown): Promise<void> {
  return out(asJson(value))
}

export function asJson(value: unknown): string {
  return JSON.stringify(value, null, 2)
}

/** The same at the end of work that is done whether it is told or not: what is not told is said, and makes the code that of a part. */
export async function outDone(text: string, code: ExitCode): Promise<ExitCode> {
  try {
    await out(text)
    return code
  } catch (error) {
    fail(error)
    return code === exitCode.ok ? exitCode.partial : code
  }
}

/** Everything that is not a result goes to stderr. */
export function say(text: string): void {
  process.stderr.write(`${text}\n`)
  appendToLog(text)
}

/** Colour only where a terminal shows it and nobody objects (NO_COLOR is honoured by styleText). */
export function paint(
  format: Parameters<typeof styleText>[0],
  text: string,
  stream: NodeJS.WriteStream = process.stderr,
): string {
  return stream.isTTY ? styleText(format, text, { stream }) : text
}

let json = false

/** From now on what goes to stderr is a log for programs, an event a line, unless a person reads it: with `--json`, of commands that run jobs. */
export function logForPrograms({ json: wanted }: Global): void {
  json = wanted === true && !process.stderr.isTTY
}

export function isForPrograms(): boolean {
  return json
}

/** Something worth knowing, in either kind of log. */
export function tell(text: string): void {
  if (json) logEvent({ type: 'notice', text })
  else say(text)
}

/** An event, as a line of such a log. */
export function logEvent(event: object): void {
  say(JSON.stringify({ at: new Date().toISOString(), ...event }))
}

/** What failed, why, and what to do, in this order; with `verbose` also what was behind it. */
export function sayFailure(
  failure: { what: string; why: string; remedy: string },
  kind: 'error' | 'warning' = 'error',
): void {
  if (json) {
    const { what, why, remedy } = failure
    logEvent({ type: kind === 'error' ? 'failure' : 'warning', what, why, remedy })
    return
  }
  say(`cairn: ${paint(kind === 'error' ? 'red' : 'yellow', `${kind}:`)} ${failure.what}: ${failure.why}`)
  if (failure.remedy) say(`  hint: ${failure.remedy}`)
}

let verbose = false

/** From now on everything is told: each step, and what was behind a failure. */
export function beVerbose(): void {
  verbose = true
}

export function isVerbose(): boolean {
  return verbose
}

/** Prints any thrown thing and gives the exit code that goes with it. */
export function fail(error: unknown): ExitCode {
  if (error instanceof Interrupted) {
    tell(`cairn: stopped by ${error.signal}; nothing incomplete was left as a backup`)
    return error.signal === 'SIGINT' ? exitCode.interrupted : exitCode.terminated
  }
  const known = error instanceof Failure ? error : systemFailure(error)
  const remedy = 'please report this, with --verbose'
  sayFailure(known ?? { what: 'internal error', why: String(error), remedy })
  if (verbose || !known) sayCauses(error)
  return known?.exit ?? exitCode.failed
}

function sayCauses(error: unknown): void {
  for (let cause = error; cause instanceof Error; cause = cause.cause)
    tell(mask(`  ${cause.stack ?? cause.message}`, secretsRead()))
}

/** A person or a supervisor asked us to stop. */
class Interrupted extends Error {
  override readonly name = 'Interrupted'
  readonly signal: 'SIGINT' | 'SIGTERM'

  constructor(signal: 'SIGINT' | 'SIGTERM') {
    super(`stopped by ${signal}`)
    this.signal = signal
  }
}

/** Aborted by the first SIGINT or SIGTERM. The second one does not wait for the cleaning up. */
export function interruptSignal(): AbortSignal {
  const controller = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      if (controller.signal.aborted)
        endProcess(signal === 'SIGINT' ? exitCode.interrupted : exitCode.terminated)
      controller.abort(new Interrupted(signal))
    })
  }
  return controller.signal
}

/** Columns as wide as their widest cell; numbers to the right. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  right: readonly number[] = [],
): string {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map(row => row[column]?.length ?? 0)),
  )
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) =>
        right.includes(column) ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd()
  return [paint('bold', line(head), process.stdout), ...rows.map(line)].join('\n')
}

/** A time for a person: local, to the minute; with seconds where they tell things apart. */
export function showTime(date: Date): string {
  const pad = (n: number): string => String(n).padStart(2, '0')
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`
}

/** ISO 8601 with the offset of the local zone, as JSON output has it. */
export function isoLocal(date: Date): string {
  const offset = -date.getTimezoneOffset()
  const local = new Date(date.getTime() + offset * 60_000).toISOString().slice(0, 19)
  const pad = (n: number): string => String(Math.floor(Math.abs(n))).padStart(2, '0')
  return `${local}${offset < 0 ? '-' : '+'}${pad(offset / 60)}:${pad(offset % 60)}`
}

/** Whether a person can be asked. */
export function canAsk(): boolean {
  return process.stdin.isTTY === true && process.stderr.isTTY === true
}

/**
 * Asks questions at the terminal. Throws the signal's reason when it is aborted meanwhile, Interrupted for Ctrl-C, and a
 * Failure (exit 2) when the input ends, as by Ctrl-D. The live line must have been taken away.
 */
export async function asking<T>(
  signal: AbortSignal,
  work: (ask: (question: string) => Promise<string>) => Promise<T>,
): Promise<T> {
  const { createInterface } = await import('node:readline/promises')
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  const closed = new AbortController()
  const ended = AbortSignal.any([signal, closed.signal])
  lines.on('SIGINT', () => closed.abort(new Interrupted('SIGINT')))
  lines.once('close', () => closed.abort(usage('no answer came', 'the input ended', 'nothing was touched')))
  try {
    return await work(question => lines.question(question, { signal: ended }))
  } catch (error) {
    if (!ended.aborted) throw error
    process.stderr.write('\n')
    throw ended.reason
  } finally {
    lines.close()
  }
}

/** Asks for consent; only "yes" is one. Throws as {@link asking} does. */
export function consent(question: string, signal: AbortSignal): Promise<boolean> {
  return asking(signal, async ask => (await ask(`${question} Type "yes" to go on: `)).trim() === 'yes')
}
