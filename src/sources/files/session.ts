import { createReadStream, realpathSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import type { Warning } from '../../model/manifest.ts'
import type { Artifact, Census, CensusLevel, Session } from '../../model/source.ts'
import type { Exit, Program, Verdict } from '../../model/step.ts'
import { privateDir } from '../../platform/private-dir.ts'
import { describeExit } from '../../platform/program.ts'
import { type GnuTar, type Note, noteOf } from './tar.ts'

/** A folder or file that becomes one artifact. */
export interface Place {
  readonly name: string
  readonly path: string
  readonly kind: 'folder' | 'file'
  readonly bytes: number
}

/** Where a restore prepares what it brings: no part of anybody's data. */
export const stagingName = '.cairn-restore'

/** With its newline. */
const longestPath = 4096
const unreachable =
  'have paths of 4096 bytes and more: they are saved, and a restore leaves them out, because GNU tar makes none so long'

interface Wishes {
  readonly exclude: readonly string[]
  /** Absolute paths. */
  readonly leftOut: readonly string[]
  readonly oneFileSystem: boolean
  readonly withName: boolean
}

/**
 * Yields one tar for each place. The census, the names that tar has listed, is known only when the last tar
 * has ended: waiting for it before the artifacts are drained would wait for ever.
 */
export async function openSession(
  places: readonly Place[],
  wishes: Wishes,
  tar: GnuTar,
  level: CensusLevel,
  ctx: Context,
): Promise<Session> {
  const openedAt = ctx.clock.now()
  const lists = privateDir(ctx.spool)
  const readings = places.map((place, index) =>
    reading(place, wishes, tar, join(lists.path, String(index)), level),
  )
  const warnings: Warning[] = []
  return {
    concurrency: 1,
    async *artifacts() {
      for (const one of readings) yield one.artifact
    },
    async census() {
      await Promise.all(readings.map(one => one.ended))
      return censusOf(readings, level, warnings)
    },
    finish: async () => ({
      kind: 'files',
      capturedAt: openedAt,
      consistentAt: ctx.clock.now(),
      client: `GNU tar ${tar.version}`,
      options: {
        paths: places.map(({ name, path, kind }) => ({ name, path, kind })),
        ...(wishes.withName ? { withName: true } : {}),
      },
      warnings: [...readings.flatMap(one => one.warnings()), ...warnings],
    }),
    async [Symbol.asyncDispose]() {
      for (const one of readings) one.giveUp()
      await rm(lists.path, { recursive: true, force: true })
    },
  }
}

/** One place, before, while and after it is read. */
interface Reading {
  readonly place: Place
  readonly artifact: Artifact
  /** Resolves when tar has ended well. */
  readonly ended: Promise<void>
  readonly list: string
  warnings(): Warning[]
  giveUp(): void
}

function reading(place: Place, wishes: Wishes, tar: GnuTar, list: string, level: CensusLevel): Reading {
  const { promise: ended, resolve, reject } = Promise.withResolvers<void>()
  // Whoever asks for the census hears of it; nobody has to.
  ended.catch(() => {})
  const notes = new Notes()
  const program: Program = {
    program: 'tar',
    args: [
      ...argumentsFor(place, wishes, tar),
      ...(level === 'none' ? [] : ['--verbose', `--index-file=${list}`]),
      ...memberOf(place, wishes),
    ],
    onStderr: line => notes.add(line),
    judge(exit, stderrTail) {
      const verdict = judge(place, notes, exit, stderrTail)
      if (verdict) reject(verdict)
      else resolve()
      return verdict
    },
  }
  return {
    place,
    artifact: { name: `files/${place.name}.tar`, media: 'tar', role: 'data', open: () => program },
    ended,
    list,
    warnings: () => notes.warnings(place),
    giveUp: () => reject(new Error(`${place.path} was not read to its end`)),
  }
}

function argumentsFor(place: Place, wishes: Wishes, tar: GnuTar): string[] {
  return [
    '--create',
    '--file=-',
    '--format=posix',
    // Reading a file changes its atime, so two backups of the same files would differ.
    '--pax-option=delete=atime,delete=ctime',
    '--sparse',
    '--numeric-owner',
    ...tar.attributes,
    '--quoting-style=escape',
    // Names are names: a backslash in one is no escape.
    '--no-unquote',
    ...(wishes.oneFileSystem ? ['--one-file-system'] : []),
    ...(place.kind === 'folder'
      ? ['--anchored', `--exclude=${top(place, wishes)}/${stagingName}`, '--no-anchored']
      : ['--dereference']),
    ...wishes.exclude.flatMap(pattern =>
      pattern.startsWith('/') ? excluding(pattern, place, wishes) : [`--exclude=${pattern}`],
    ),
    '--no-wildcards',
    ...wishes.leftOut.flatMap(path => excluding(path, place, wishes)),
  ]
}

/** An absolute pattern of GNU tar means that very place, seen from the folder. */
function excluding(pattern: string, place: Place, wishes: Wishes): string[] {
  if (place.kind === 'file') return []
  const inside = [place.path, followed(place)]
    .map(folder => relative(folder, pattern))
    .find(path => path !== '' && !path.startsWith('..'))
  if (inside === undefined) return []
  return ['--anchored', `--exclude=${top(place, wishes)}/${inside}`, '--no-anchored']
}

/** What the names of a folder's members begin with. */
function top(place: Place, { withName }: Wishes): string {
  return withName ? basename(followed(place)) : '.'
}

/** tar would store a link to a folder as a link. */
function followed({ path, kind }: Place): string {
  return kind === 'folder' ? realpathSync(path) : path
}

/** Members of a folder are named from its inside (`./…`), so none of them can be taken for an option. */
function memberOf(place: Place, { withName }: Wishes): string[] {
  if (place.kind === 'folder' && !withName) return [`--directory=${place.path}`, '--', '.']
  const path = followed(place)
  return [`--directory=${dirname(path)}`, '--', basename(path)]
}

/** Exit code 1 says that files changed while they were read; they are in the notes. */
function judge(place: Place, notes: Notes, exit: Exit, stderrTail: string): Verdict {
  if (exit.code === 0 || exit.code === 1) return null
  const [first] = notes.errors
  return new Failure({
    what: `cannot back up ${place.path}`,
    why: first ? notes.errors.join('; ') : describeExit(exit, stderrTail),
    remedy: /Permission denied/.test(first ?? '')
      ? 'run as a user who may read it, or exclude it'
      : 'exclude it, or see to the file',
  })
}

/** Where a reader's patience ends. */
const mostNotes = 1000

/** What tar said, the first thousand lines of it and the number of the others. */
class Notes {
  readonly errors: string[] = []
  readonly #harmless: Note[] = []
  #more = 0

  add(line: string): void {
    const note = noteOf(line)
    if (!note) return
    if (note.path === null && this.errors.length < 3) this.errors.push(note.text)
    if (this.#harmless.length < mostNotes) this.#harmless.push(note)
    else this.#more++
  }

  warnings(place: Place): Warning[] {
    const warnings = this.#harmless.map(note => ({
      what: note.text,
      path: note.path === null ? place.path : where(place, note.path),
    }))
    return this.#more === 0
      ? warnings
      : [...warnings, { what: `and ${this.#more} more like these`, path: place.path }]
  }
}

function where(place: Place, member: string): string {
  return place.kind === 'folder' ? join(place.path, member) : place.path
}

async function censusOf(
  readings: readonly Reading[],
  level: CensusLevel,
  warnings: Warning[],
): Promise<Census> {
  const objects: { name: string; rows: number | null }[] = []
  for (const { place, list } of readings) {
    if (level === 'none') break
    if (level !== 'counts') {
      objects.push({ name: place.name, rows: null })
      continue
    }
    const { members, tooLong } = await counted(list)
    objects.push({ name: place.name, rows: members })
    if (tooLong > 0) warnings.push({ what: `${tooLong} members ${unreachable}`, path: place.path })
  }
  return { level, at: 'near', objects, unseen: [] }
}

/** The members of a list, and how many of them have a path that nobody can name in one piece (PATH_MAX). */
async function counted(path: string): Promise<{ members: number; tooLong: number }> {
  let members = 0
  let tooLong = 0
  let length = 0
  for await (const chunk of createReadStream(path)) {
    for (const byte of chunk as Buffer) {
      length++
      if (byte !== 10) continue
      members++
      if (length > longestPath) tooLong++
      length = 0
    }
  }
  return { members, tooLong }
}
