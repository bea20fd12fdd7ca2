import { spawn } from 'node:child_process'
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { childrenOf, type Machine } from './cli.ts'

/** A run of Cairn on a terminal of its own, which script(1) makes; ended when it is disposed. */
export interface Terminal extends Disposable {
  /** What the terminal has shown so far. */
  shown(): string
  /** Resolves when that matches; rejects when the run ends without. */
  shows(pattern: RegExp): Promise<void>
  /** Presses keys: `\x03` is Ctrl-C, `\x04` Ctrl-D. */
  type(keys: string): void
  /** The process id of Cairn. */
  pid(): number
  /** The exit code. */
  readonly ended: Promise<number | null>
}

/** `args` for sh: nothing in them may need quoting. */
export function onTerminal(host: Machine, args: string, cwd = host.folder): Terminal {
  const cairn = resolve(import.meta.dirname, '../../bin/cairn')
  const child = spawn('script', ['-qec', `exec ${cairn} ${args}`, '/dev/null'], {
    cwd,
    env: { PATH: process.env.PATH, HOME: host.path('home'), CAIRN_STATE: host.state, TERM: 'xterm' },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let text = ''
  let hasEnded = false
  child.stdout.setEncoding('utf8').on('data', chunk => {
    text += chunk
  })
  child.stdin.on('error', () => {})
  const ended = new Promise<number | null>((done, reject) => {
    child.once('error', reject)
    child.once('close', code => {
      hasEnded = true
      done(code)
    })
  })
  return {
    ended,
    [Symbol.dispose]: () => void child.kill('SIGKILL'),
    shown: () => text,
    async shows(pattern) {
      while (!pattern.test(text)) {
        if (hasEnded) throw new Error(`it ended before it showed ${pattern}: ${text}`)
        await sleep(20)
      }
    },
    type: keys => void child.stdin.write(keys),
    pid: () => childrenOf(child.pid ?? 0)[0]?.pid ?? 0,
  }
}
