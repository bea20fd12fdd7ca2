import { inlineSecret } from './inline.ts'

/** An option of a dump program, by its long name. */
export interface ProgramOption {
  readonly letter?: string
  /** `next`: it may stand in the following word; `same`: only in the word of the option; absent: it takes none. */
  readonly value?: 'next' | 'same'
}

export type ProgramOptions = ReadonlyMap<string, ProgramOption>

/** One argument, with the value that belongs to it. */
export interface Argument {
  /** The long name in full, also where a letter or an abbreviation stood; null for a word that is no known option. */
  readonly name: string | null
  readonly value: string | undefined
  /** The same in one word: `--schema=app`, `-v`. */
  readonly word: string
}

/** What the configuration takes from one argument. */
export interface Lift {
  /** Its name in the options of the source, with a dot for an inner one. */
  readonly as: string
  readonly kind: 'text' | 'number' | 'secret'
}

/** Arguments of a dump program, taken apart. */
export interface Sorted {
  /** What they say that is an option of the source: where to connect, and how to log in. */
  readonly lifted: Readonly<Record<string, unknown>>
  /** What is left for the program, one word each. */
  readonly rest: readonly string[]
  /** What is left out that a person might miss; never holds a value. */
  readonly notes: readonly string[]
}

/** `host: h=` is `--host X`, `-h X`; `password: p?` is `--password[=X]`, `-p[X]`; `clean: c` takes no value. */
export function programOptions(table: Readonly<Record<string, string>>): ProgramOptions {
  return new Map(
    Object.entries(table).map(([name, said]) => {
      const letter = said.replace(/[=?]$/, '')
      const value = said.endsWith('=') ? 'next' : said.endsWith('?') ? 'same' : undefined
      return [name, { ...(letter ? { letter } : {}), ...(value ? { value } : {}) }]
    }),
  )
}

/** Takes words apart as getopt and MySQL's programs do: abbreviations, bundles of letters, values that follow. */
export function readArguments(words: readonly string[], options: ProgramOptions): Argument[] {
  const read: Argument[] = []
  const left = [...words]
  for (let word = left.shift(); word !== undefined; word = left.shift()) {
    if (/^--./s.test(word)) read.push(longOption(word, left, options))
    else if (/^-./s.test(word)) read.push(...letters(word, left, options))
    else read.push({ name: null, value: undefined, word })
  }
  return read
}

/** Takes its value from `left` where that follows. */
function longOption(word: string, left: string[], options: ProgramOptions): Argument {
  const [, said = '', glued] = /^--([^=]+)(?:=([\s\S]*))?$/.exec(word) ?? []
  const name = fullName(said.replaceAll('_', '-'), options)
  if (name === null) return { name, value: undefined, word }
  const value = glued ?? (options.get(name)?.value === 'next' ? left.shift() : undefined)
  return { name, value, word: value === undefined ? `--${said}` : `--${said}=${value}` }
}

/** The only option that begins so. */
function fullName(said: string, options: ProgramOptions): string | null {
  if (options.has(said)) return said
  const [only, other] = [...options.keys()].filter(name => name.startsWith(said))
  return only !== undefined && other === undefined ? only : null
}

/** `-Oxn app`, `-napp`. What follows a letter that is not known stays with it. */
function letters(word: string, left: string[], options: ProgramOptions): Argument[] {
  const read: Argument[] = []
  for (let at = 1; at < word.length; at++) {
    const letter = word[at] ?? ''
    const behind = word.slice(at + 1)
    const [name, option] = [...options].find(([, each]) => each.letter === letter) ?? []
    if (name === undefined || option === undefined)
      return [...read, { name: null, value: undefined, word: `-${letter}${behind}` }]
    if (option.value === undefined) {
      read.push({ name, value: undefined, word: `-${letter}` })
      continue
    }
    const value = behind || (option.value === 'next' ? left.shift() : undefined)
    return [...read, { name, value, word: `-${letter}${value ?? ''}` }]
  }
  return read
}

/** Puts a value where the configuration has it; `name` is the argument's. */
export function lift(into: Record<string, unknown>, { as, kind }: Lift, value: string, name = as): void {
  const from = `what --${name} says`
  const shown = kind === 'number' ? Number(value) : kind === 'secret' ? inlineSecret(value, from) : value
  const [outer = '', inner] = as.split('.')
  if (inner === undefined) into[outer] = shown
  else into[outer] = { ...(into[outer] as object | undefined), [inner]: shown }
}
