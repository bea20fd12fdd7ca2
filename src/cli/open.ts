import { tmpdir } from 'node:os'
import { type App, notifiersOfEnvironment } from '../app.ts'
import { withoutSecrets } from '../daemon/log-line.ts'
import { noteTold, wasJustTold } from '../daemon/told.ts'
import { asFailure, type Failure } from '../model/failure.ts'
import { runContext } from '../platform/run-context.ts'
import { secretsRead } from '../platform/secret-source.ts'
import { openState, type State } from '../platform/state.ts'
import { interruptSignal, sayFailure } from './io.ts'

/** What `open` opens, for those who back up. Where it fails, whom the environment names for failures is told of it first. */
export async function openOrTell(configFlag: string | undefined, open: () => App): Promise<App> {
  try {
    return open()
  } catch (error) {
    const notifiers = notifiersOfEnvironment(configFlag)
    const failure = asFailure(error, 'cannot begin')
    if (notifiers.length > 0) await tellFailure(notifiers, failure)
    throw error
  }
}

type Notifiers = ReturnType<typeof notifiersOfEnvironment>

/** A container that is restarted again and again says the same each time: others are told once an hour. */
async function tellFailure(notifiers: Notifiers, failure: Failure): Promise<void> {
  const text = `nothing is backed up (exit ${failure.exit})\n${failure.message}`
  const message = withoutSecrets(text, secretsRead())
  const state = stateOrNull()
  if (state && wasJustTold(message, state, new Date())) return
  const isTold = await tellAll(notifiers, message)
  if (isTold && state) noteTold(message, state, new Date())
}

function stateOrNull(): State | null {
  try {
    return openState()
  } catch {
    return null
  }
}

/** Whether all were told. Throws only when it is interrupted: that others cannot be told is a warning. */
async function tellAll(notifiers: Notifiers, message: string): Promise<boolean> {
  const signal = interruptSignal()
  const folder = tmpdir()
  try {
    using ctx = runContext({
      ...{ signal, tmp: folder, spool: folder, stallMs: 60_000 },
      ...{ clock: { now: () => new Date() }, emit: () => {} },
    })
    for (const notifier of notifiers) await notifier.tell({ moment: 'failure', message, log: message }, ctx)
    return true
  } catch (error) {
    signal.throwIfAborted()
    sayFailure(asFailure(error, 'nobody could be told'), 'warning')
    return false
  }
}
