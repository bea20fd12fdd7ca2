import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { cwd } from 'node:process'
import { promisify } from 'node:util'
import * as z from 'zod'
import { type Failure, usage } from '../model/failure.ts'
import { Secret } from '../model/secret.ts'

/** How long a command may take to print a secret. */
const commandMs = 60_000

/** Where a secret comes from. It is read when it is needed: listing backups asks for no password. */
export interface SecretSource {
  /** For messages: `the environment variable SHOP_PASSWORD`. */
  readonly where: string
  /** The path, when it is a file: some programs are better handed the file than its content. */
  readonly file?: string
  /** Throws a Failure (exit 2) that names where it was looked for, never what was found. */
  read(): Promise<Secret>
  /** How the configuration may be shown: the place, or `***` for a value. */
  toJSON(): unknown
}

/** The option type of every secret in the configuration: the value itself, or the place to take it from. */
export const secretOption = z
  .union([
    z.string(),
    z.strictObject({ value: z.string() }),
    z.strictObject({ env: z.string().min(1) }),
    z.strictObject({ file: z.string().min(1) }),
    z.strictObject({ command: z.array(z.string()).min(1) }),
  ])
  .meta({
    id: 'Secret',
    description: 'the secret itself, or { env: NAME }, { file: PATH }, { command: [PROGRAM, ARG...] }',
    example: { file: '/run/secrets/NAME' },
  })
  .transform(secretSource)

/** What was read so far: whoever keeps or sends a text that others wrote masks these in it. */
export function secretsRead(): Secret[] {
  return [...known.values()]
}

const known = new Map<string, Secret>()

/** A URL is one secret, and the password in it another: messages of servers and programs quote either. */
function remember(secret: Secret): Secret {
  const value = secret.reveal()
  if (known.has(value)) return secret
  known.set(value, secret)
  const password = URL.canParse(value) ? new URL(value).password : ''
  if (password) {
    known.set(password, new Secret(password))
    remember(new Secret(decoded(password)))
  }
  return secret
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

export function secretSource(
  from: string | { value: string } | { env: string } | { file: string } | { command: string[] },
): SecretSource {
  if (typeof from === 'string')
    return { where: 'the configuration', read: async () => remember(new Secret(from)), toJSON: () => '***' }
  if ('value' in from) return secretSource(from.value)
  if ('env' in from) return fromEnvironment(from.env)
  if ('file' in from) return fromFile(from.file)
  return fromCommand(from.command)
}

function fromEnvironment(name: string): SecretSource {
  const where = `the environment variable ${name}`
  return {
    where,
    toJSON: () => ({ env: name }),
    async read() {
      const value = process.env[name]
      if (!value)
        throw unreadable(where, value === undefined ? 'it is not set' : 'it is empty', `set ${name}`)
      return remember(new Secret(value))
    },
  }
}

function fromFile(path: string): SecretSource {
  const where = `the file ${path}`
  const remedy = isAbsolute(path)
    ? 'check the path, its permissions and the content'
    : `write its whole path: it is looked for in ${cwd()}`
  return {
    where,
    file: path,
    toJSON: () => ({ file: path }),
    async read() {
      const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
        throw unreadable(where, error.code === 'ENOENT' ? 'there is no such file' : error.message, remedy)
      })
      return secretIn(text, where, remedy)
    },
  }
}

function fromCommand(command: string[]): SecretSource {
  const [program = '', ...args] = command
  const where = `the command ${program}`
  const remedy = `run it by hand: ${program}`
  return {
    where,
    toJSON: () => ({ command }),
    async read() {
      const running = promisify(execFile)(program, args, { timeout: commandMs, killSignal: 'SIGKILL' })
      // Nobody is there to answer a question.
      running.child.stdin?.on('error', () => {}).end()
      // A helper that it left behind may hold the output open.
      const close = (): void => {
        for (const stream of [running.child.stdout, running.child.stderr]) stream?.destroy()
      }
      running.child.once('exit', () => setTimeout(close, 1_000).unref())
      const { stdout } = await running.catch((error: unknown) => {
        // Its message quotes what the command printed.
        throw unreadable(where, commandProblem(error), remedy)
      })
      return secretIn(stdout, where, remedy)
    },
  }
}

function commandProblem(error: unknown): string {
  const { code, killed, signal } = error as { code?: unknown; killed?: boolean; signal?: unknown }
  if (code === 'ENOENT') return 'there is no such program'
  if (killed) return `it did not answer within ${commandMs / 1000} s`
  return signal ? `it was killed by ${String(signal)}` : `it failed (${String(code)})`
}

/** Files and commands end their output with a newline that is not part of the secret. */
function secretIn(text: string, where: string, remedy: string): Secret {
  const value = text.replace(/\r?\n$/, '')
  if (value === '') throw unreadable(where, 'it is empty', remedy)
  return remember(new Secret(value))
}

function unreadable(where: string, why: string, remedy: string): Failure {
  return usage(`cannot read a secret from ${where}`, why, remedy)
}
