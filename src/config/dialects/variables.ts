import { exitCode, Failure } from '../../model/failure.ts'
import { scheduleFault } from '../../model/schedule.ts'
import { suggest } from '../../model/suggest.ts'
import { isMachines, zoneNamed } from '../../platform/zone.ts'
import type { Dialect } from './dialect.ts'

/** The environment of a process. */
export type Environment = Readonly<Record<string, string | undefined>>

/** Where the configuration takes a secret from: it holds none itself. */
export type SecretPlace = { env: string } | { file: string }

/**
 * The environment without what people do not mean: an empty variable is an unset one (compose and Kubernetes pass
 * `VAR=`), values are trimmed, and one pair of quotes around them is taken off (`--env-file` keeps them).
 */
export function cleaned(env: Environment): Environment {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value = '']) => {
      const clean = unquoted(value.trim())
      return clean === '' ? [] : [[name, clean]]
    }),
  )
}

function unquoted(text: string): string {
  const quoted = /^(["'])([\s\S]*)\1$/.exec(text)
  return quoted && text.length > 1 ? (quoted[2] ?? '') : text
}

/** The text of a file; null when it cannot be read. With `look`, a pipe is left as it is, for what it holds can be read once only: the text is any. */
export type ReadText = (path: string, look?: 'look') => string | null

const anAddress = 'an address that begins with http:// or https://'

function addressOrNull(text: string): string | null {
  return URL.canParse(text) && /^https?:\/\//.test(text) ? text : null
}

/** Variables that are not set, where none that is set is wrong, of a tool whose container waited then. */
export class Incomplete extends Failure {}

interface Fault {
  readonly name: string
  readonly expected: string
  /** Null where nothing was found, or what was found is nobody's business. */
  readonly found: string | null
}

/**
 * The variables of a dialect, as they are read one after another. Faults are gathered: `check` throws one Failure
 * (exit 2) that lists them all. Never shows the value of a secret.
 */
export class Variables {
  readonly warnings: string[] = []
  /** Whether a person wants to be told more. */
  isVerbose = false
  readonly #env: Environment
  readonly #read: ReadText
  readonly #faults: Fault[] = []
  readonly #known = new Set<string>()

  constructor(env: Environment, read: ReadText) {
    this.#env = cleaned(env)
    this.#read = read
  }

  /** Every variable that is set. */
  get names(): readonly string[] {
    return Object.keys(this.#env)
  }

  /** Every variable that was looked at. */
  get known(): ReadonlySet<string> {
    return this.#known
  }

  /** Those that must be set and are not. */
  get lacking(): readonly string[] {
    return this.#faults.filter(({ found }) => found === null).map(({ name }) => name)
  }

  /** Warns of none of these. */
  overlook(names: readonly string[]): void {
    for (const name of names) this.#known.add(name)
  }

  /** The value, undefined when it is not set. */
  text(name: string): string | undefined {
    this.#known.add(name)
    return this.#env[name]
  }

  /** The value of one that must be set. */
  required(name: string, what: string): string {
    const value = this.text(name)
    if (value === undefined) this.fault(name, what, null)
    return value ?? ''
  }

  /** A value that a function reads, which returns null for what it cannot. */
  parsed<T>(name: string, expected: string, read: (text: string) => T | null): T | undefined {
    const text = this.text(name)
    if (text === undefined) return undefined
    const value = read(text)
    if (value === null) this.fault(name, expected, text)
    return value ?? undefined
  }

  /** A whole number. What Kubernetes injects for a service of such a name (`PG_PORT=tcp://…`) is nobody's. */
  integer(name: string, least: number, most: number): number | undefined {
    if (this.text(name)?.startsWith('tcp://')) return undefined
    return this.parsed(name, `a whole number from ${least} to ${most}`, text =>
      /^\d{1,15}$/.test(text) && Number(text) >= least && Number(text) <= most ? Number(text) : null,
    )
  }

  /** True for `true`, `1`, `yes`, `on`. */
  flag(name: string): boolean {
    const value = this.parsed(name, '"true" or "false"', text =>
      /^(true|1|yes|on)$/i.test(text) ? true : /^(false|0|no|off)$/i.test(text) ? false : null,
    )
    return value ?? false
  }

  /** A secret, or the file that `NAME_FILE` names. With both set the variable wins, and that is said. */
  secret(name: string): SecretPlace | undefined {
    const value = this.text(name)
    const file = this.text(`${name}_FILE`)
    const both = `${name} and ${name}_FILE are both set: the file is not read`
    if (value !== undefined && file !== undefined && !this.warnings.includes(both)) this.warnings.push(both)
    if (value !== undefined) return { env: name }
    if (file === undefined) return undefined
    // What is missing at night was missing when the schedule began.
    if (!this.#holds(file)) this.fault(`${name}_FILE`, 'a file that can be read, and holds something', file)
    return { file }
  }

  #holds(file: string): boolean {
    return Boolean(this.#read(file, 'look')?.trim())
  }

  /** The same for a name that other containers read from the same `.env`: where the file is not for us, that is said. */
  secretIfThere(name: string): SecretPlace | undefined {
    const file = this.text(`${name}_FILE`)
    if (this.text(name) !== undefined || file === undefined || this.#holds(file)) return this.secret(name)
    this.warnings.push(`${name}_FILE is not used: ${file} cannot be read, or holds nothing`)
    return undefined
  }

  /** The address of a webhook, which may hold a token: a variable, or the file that `NAME_FILE` names. */
  webhook(name: string): SecretPlace | undefined {
    const text = this.text(name)
    if (text !== undefined && addressOrNull(text) === null) this.fault(name, anAddress, 'something else')
    return this.secret(name)
  }

  /** The address of an S3 server; undefined also for AWS's own, which is none. */
  endpoint(name: string): string | undefined {
    const endpoint = this.parsed(name, anAddress, addressOrNull)?.replace(/\/$/, '')
    return endpoint === 'https://s3.amazonaws.com' ? undefined : endpoint
  }

  /** When to run. */
  schedule(name: string): string | undefined {
    return this.parsed(name, 'a schedule of cron, as "0 2 * * *", with 5 or 6 fields', text =>
      scheduleFault(text) === null ? text : null,
    )
  }

  /** The option `timezone` of a job, as `TZ` says; none where the clock of the machine is meant. */
  zone(): { timezone?: string } {
    if (isMachines(this.text('TZ') ?? '')) return {}
    const timezone = this.parsed('TZ', 'a time zone, as Europe/Berlin', zoneNamed)
    const taken = `TZ: ${this.text('TZ')} is taken for ${timezone}`
    if (timezone !== undefined && timezone !== this.text('TZ')) this.warnings.push(taken)
    return timezone === undefined ? {} : { timezone }
  }

  requiredSecret(name: string, what: string): SecretPlace {
    const place = this.secret(name)
    if (place === undefined) this.fault(name, `${what}; ${name}_FILE may name a file that holds it`, null)
    return place ?? { env: name }
  }

  /** The text of a secret, from wherever it is, for checks and lists; never to be shown. */
  hidden(name: string): string | undefined {
    const place = this.secret(name)
    if (!place || 'env' in place) return this.text(name)
    return this.#read(place.file)?.replace(/\r?\n$/, '')
  }

  fault(name: string, expected: string, found: string | null): void {
    if (this.#faults.some(fault => fault.name === name && fault.expected === expected)) return
    this.#faults.push({ name, expected, found })
  }

  /**
   * Throws for all faults at once. Then warns of variables with one of these prefixes that mean nothing, but for those
   * that Kubernetes sets for services of such a name.
   */
  check({ name: dialect, prefixes, waits }: Pick<Dialect, 'name' | 'prefixes' | 'waits'>): void {
    if (this.#faults.length > 0) {
      const lines = this.#faults.map(
        ({ name, expected, found }) =>
          `  ${name}: expected ${expected}; ${found === null ? 'it is not set' : `found ${JSON.stringify(found)}`}`,
      )
      const isHalf = waits && this.#faults.every(({ found }) => found === null)
      throw new (isHalf ? Incomplete : Failure)({
        what: `the environment is not one that the dialect ${dialect} can work with`,
        why: `${lines.length === 1 ? 'one error' : `${lines.length} errors`}\n${lines.join('\n')}`,
        remedy: 'nothing was touched; set the variables and start again',
        exit: exitCode.usage,
      })
    }
    for (const name of Object.keys(this.#env)) {
      const isOurs = prefixes.some(prefix => name.startsWith(prefix)) && !this.#known.has(name)
      if (!isOurs || ofKubernetes.test(name) || this.#env[name]?.startsWith('tcp://')) continue
      const meant = suggest(name, this.#known)
      this.warnings.push(`${name} means nothing${meant ? `; did you mean ${meant}?` : ''}`)
    }
  }
}

/** What Kubernetes injects for every service: `BACKUP_SERVICE_HOST`, `BACKUP_PORT_80_TCP_ADDR`. */
const ofKubernetes = /_SERVICE_(HOST|PORT)(_\w+)?$|_PORT_\d+_(TCP|UDP)(_\w+)?$/
