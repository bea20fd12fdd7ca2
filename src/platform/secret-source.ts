import { execFile } from 'node:child_process'
import { readFile, stat } from 'node:fs/promises'
import { promisify } from 'node:util'
import * as z from 'zod'
import { usage } from '../model/failure.ts'
import { Secret } from '../model/secret.ts'

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
  .describe('the secret itself, or { env: NAME }, { file: PATH }, { command: [PROGRAM, ARG...] }')
  .transform(secretSource)

export function secretSource(
  from: string | { value: string } | { env: string } | { file: string } | { command: string[] },
): SecretSource {
  if (typeof from === 'string')
    return { where: 'the configuration', read: async () => new Secret(from), toJSON: () => '***' }
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
      if (!value) throw usage(`cannot read a secret from ${where}`, 'it is not set', `set ${name}`)
      return new Secret(value)
    },
  }
}

function fromFile(path: string): SecretSource {
  const where = `the file ${path}`
  return {
    where,
    file: path,
    toJSON: () => ({ file: path }),
    async read() {
      try {
        return new Secret(withoutNewline(await readFile(path, 'utf8')))
      } catch (error) {
        const why = (await stat(path).catch(() => null)) ? (error as Error).message : 'there is no such file'
        throw usage(`cannot read a secret from ${where}`, why, 'check the path and its permissions')
      }
    },
  }
}

function fromCommand(command: string[]): SecretSource {
  const [program = '', ...args] = command
  const where = `the command ${program}`
  return {
    where,
    toJSON: () => ({ command }),
    async read() {
      try {
        const { stdout } = await promisify(execFile)(program, args, { timeout: 60_000 })
        return new Secret(withoutNewline(stdout))
      } catch (error) {
        const code = (error as { code?: unknown }).code
        throw usage(
          `cannot read a secret from ${where}`,
          `it failed (${String(code)})`,
          `run it by hand: ${program}`,
        )
      }
    },
  }
}

/** Files and commands end their output with a newline that is not part of the secret. */
function withoutNewline(text: string): string {
  return text.replace(/\r?\n$/, '')
}
