import type { Readable } from 'node:stream'
import { mask, Secret } from '../model/secret.ts'
import type { Program } from '../model/step.ts'

const tailLength = 16 * 1024
/** A line that is longer is given away in pieces. */
const lineLength = 64 * 1024

export interface Stderr {
  /** Resolves when no more will come. A grandchild may keep it open after the program has ended. */
  readonly ended: Promise<void>
  /** The last 16 KiB so far. */
  tail(): string
}

/**
 * Follows what a program says: keeps the end of it and gives its lines to `onStderr`, both without the secrets that
 * the program was given, in bounded memory. What `onStderr` throws goes to `onFault`.
 */
export function followStderr(
  program: Program,
  stream: Readable | null,
  onFault: (error: unknown) => void,
): Stderr {
  const secrets = secretsOf(program)
  // A secret may be a file of a hundred thousand lines, each of which counts as one.
  const longest = secrets.reduce((most, each) => Math.max(most, encodeURIComponent(each.reveal()).length), 0)
  let tail = ''
  /** What came after the last newline. */
  let line = ''

  const say = (text: string): void => {
    tail = (tail + text).slice(-tailLength)
    if (!program.onStderr) return
    try {
      for (const each of text.replace(/\n$/, '').split('\n')) program.onStderr(each)
    } catch (error) {
      onFault(error)
    }
  }
  const take = (text: string): void => {
    line += text
    const end = line.lastIndexOf('\n') + 1
    if (end > 0) {
      say(mask(line.slice(0, end), secrets))
      line = line.slice(end)
    }
    if (line.length <= lineLength) return
    // The beginning of a secret may stand at the end: hold that much back.
    const masked = mask(line, secrets)
    const cut = Math.max(0, masked.length - longest)
    say(masked.slice(0, cut))
    line = masked.slice(cut)
  }
  const ended = new Promise<void>(resolve => {
    if (!stream) return resolve()
    stream.setEncoding('utf8').on('data', take)
    stream.on('error', () => {})
    stream.once('close', () => {
      if (line !== '') say(mask(line, secrets))
      line = ''
      resolve()
    })
  })
  return { ended, tail: () => (tail + mask(line, secrets)).slice(-tailLength) }
}

/** The secrets of a program; of one with several lines each line too, because programs quote by the line. */
function secretsOf(program: Program): Secret[] {
  const whole = [
    ...Object.values(program.env ?? {}).filter(value => value instanceof Secret),
    ...(program.secretFds ?? []),
  ]
  const lines = whole.flatMap(secret => secret.reveal().split(/\r?\n/)).filter(each => each.length >= 8)
  return [...whole, ...lines.map(each => new Secret(each))]
}
