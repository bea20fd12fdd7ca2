import type { RunEvent } from '../model/event.ts'
import { showBytes, showDuration } from '../model/quantity.ts'
import type { Global } from './io.ts'
import { isForPrograms, isVerbose, logEvent, paint, say, sayFailure } from './io.ts'

/** Shows what a run does while it goes on. */
export interface Reporter {
  emit(event: RunEvent): void
  /** Takes the live line away until the next phase begins: somebody is to be asked, or a result is to be read. */
  end(): void
}

/** A live line on a terminal (unless several things go on at once, or NO_COLOR is set), a line an event in a pipe, JSON lines where a program reads. */
export function reporter(global: Global, live = true): Reporter {
  if (isForPrograms()) return { emit: logEvent, end: () => {} }
  if (live && process.stderr.isTTY && !global.quiet && !process.env.NO_COLOR) return liveLine()
  return plainLines(global.quiet === true)
}

function plainLines(quiet: boolean): Reporter {
  return {
    emit(event) {
      if (event.type === 'warning' || event.type === 'failure') {
        sayFailure(event, event.type === 'failure' ? 'error' : 'warning')
      } else if (event.type === 'backup' && !quiet) {
        say(summary(event))
      } else if (event.type === 'notice' && !quiet) {
        say(event.job === undefined ? event.text : `${event.job}: ${event.text}`)
      } else if (event.type === 'phase' && isVerbose()) {
        say(stepOf(event))
      }
    },
    end: () => {},
  }
}

function summary(event: Extract<RunEvent, { type: 'backup' }>): string {
  const what = event.unit === event.job ? event.job : `${event.job} (${event.unit})`
  const time = showDuration(event.seconds * 1000)
  return `${paint('green', 'backed up')} ${what}: ${event.id}, ${showBytes(event.bytes)} in ${time}, to ${event.stores.join(', ')}`
}

const phases: Readonly<Record<string, string>> = {
  inspect: 'looking at the source',
  open: 'opening the source',
  capture: 'reading',
  deliver: 'storing',
  finish: 'finishing',
  copy: 'copying',
  read: 'reading',
  restore: 'restoring',
  verify: 'verifying',
  prune: 'pruning',
}

/** `shop (customers): reading`. */
function stepOf({ job, unit, phase }: Extract<RunEvent, { type: 'phase' }>): string {
  const what = unit === undefined || unit === job ? job : `${job} (${unit})`
  return [what, phases[phase]].filter(Boolean).join(': ')
}

function liveLine(): Reporter {
  const plain = plainLines(false)
  let phase = ''
  let started = performance.now()
  let progress: Extract<RunEvent, { type: 'progress' }> | null = null
  let speed = { at: started, bytes: 0, rate: 0 }
  const erase = (): void => void process.stderr.write('\r\x1b[2K')
  const draw = (): void => {
    const elapsed = showDuration(performance.now() - started)
    const stored = progress ? Math.max(0, ...Object.values(progress.stored), progress.read ?? 0) : 0
    speed = faster(speed, stored)
    const rate = speed.rate > 0 ? `  ${showBytes(speed.rate)}/s` : ''
    const bytes = progress ? `  ${progress.artifact}  ${showBytes(stored)}${rate}` : ''
    erase()
    process.stderr.write(`${phase}${bytes}  ${elapsed}`.slice(0, (process.stderr.columns || 80) - 1))
  }
  let timer: NodeJS.Timeout | null = null
  const begin = (): void => {
    timer ??= setInterval(draw, 250).unref()
  }
  begin()
  return {
    emit(event) {
      if (event.type === 'progress') {
        progress = event
      } else if (event.type === 'phase') {
        phase = [event.job, phases[event.phase]].filter(Boolean).join(': ')
        progress = null
        started = performance.now()
        speed = { at: started, bytes: 0, rate: 0 }
        begin()
      } else {
        erase()
        plain.emit(event)
      }
    },
    end() {
      if (timer) clearInterval(timer)
      timer = null
      erase()
    },
  }
}

/** The rate over about the last second. */
function faster(speed: { at: number; bytes: number; rate: number }, bytes: number): typeof speed {
  const now = performance.now()
  if (bytes < speed.bytes) return { at: now, bytes, rate: 0 }
  if (now - speed.at < 1000) return speed
  return { at: now, bytes, rate: ((bytes - speed.bytes) / (now - speed.at)) * 1000 }
}
