import { setTimeout as sleep } from 'node:timers/promises'
import type { Context } from '../../src/model/context.ts'
import { Failure } from '../../src/model/failure.ts'
import type { Chain, Kind, Warning } from '../../src/model/manifest.ts'
import type { Restorer } from '../../src/model/restore.ts'
import type { Artifact, Census, Session, Source } from '../../src/model/source.ts'
import type { Bytes, Program } from '../../src/model/step.ts'

/** One artifact of a synthetic source. */
export interface SyntheticArtifact {
  readonly name: string
  readonly bytes: number
  readonly media?: string
  /** What is claimed, not what is true. */
  readonly sizeHint?: number
  /** Break after so many bytes: throw, end the program with exit code 1, or send nothing more. */
  readonly breakAfter?: { readonly bytes: number; readonly how: 'throw' | 'hang' }
  /** Bytes of this process, or of another program. */
  readonly as?: 'bytes' | 'program'
  /** Waits before every chunk of 64 KiB. */
  readonly msPerChunk?: number
}

export interface SyntheticOptions {
  readonly artifacts?: readonly SyntheticArtifact[]
  readonly identity?: string
  readonly units?: readonly string[]
  readonly concurrency?: number
  /** The names become known only when the artifact before was drained, so late. */
  readonly msBeforeName?: number
  readonly estimate?: number
  readonly census?: Census['objects']
  readonly kind?: Kind
  readonly chain?: Chain
  readonly warnings?: readonly Warning[]
  /** Why parts of it are not in the backup. */
  readonly missing?: readonly Failure[]
  /** Where a Failure is thrown: `finish` fails after the last byte. */
  readonly failIn?: 'inspect' | 'open' | 'artifacts' | 'census' | 'finish' | 'dispose'
  /** Where it waits until it is aborted. */
  readonly hangIn?: 'open' | 'artifacts' | 'census' | 'finish'
}

/** What happened to a synthetic source. Times are those of `performance.now()`. */
export interface Observed {
  readonly sessions: { openedAt: number; disposedAt: number | null; disposals: number }[]
  /** Artifacts whose `open` was called, in that order. */
  readonly opened: string[]
  /** Artifacts of this process's bytes that were read to their end. */
  readonly drained: string[]
  openNow: number
  openAtOnce: number
  finished: number
}

/**
 * A source that makes its bytes: the same ones for the same artifact name, so that anybody can say what they must
 * be (`syntheticBytes`). It can be slow, late, wrong about sizes, and can fail or hang everywhere.
 */
export function syntheticSource(options: SyntheticOptions = {}): Source & { readonly observed: Observed } {
  const observed: Observed = { sessions: [], opened: [], drained: [], openNow: 0, openAtOnce: 0, finished: 0 }
  return {
    engine: 'synthetic',
    observed,
    async inspect() {
      failWhere('inspect', options)
      const artifacts = options.artifacts ?? []
      return {
        identity: options.identity ?? 'synthetic:1',
        version: '1',
        units: (options.units ?? ['unit']).map(name => ({ name })),
        estimate: options.estimate ?? artifacts.reduce((sum, artifact) => sum + artifact.bytes, 0),
      }
    },
    async open(_unit, _parent, level, ctx) {
      await reach('open', options, ctx)
      const record = { openedAt: performance.now(), disposedAt: null as number | null, disposals: 0 }
      observed.sessions.push(record)
      return {
        ...sessionOf(options, observed, level, ctx),
        async [Symbol.asyncDispose]() {
          record.disposals++
          record.disposedAt ??= performance.now()
          failWhere('dispose', options)
        },
      }
    },
  }
}

function sessionOf(options: SyntheticOptions, observed: Observed, level: Census['level'], ctx: Context) {
  return {
    concurrency: options.concurrency ?? 1,
    async *artifacts() {
      for (const artifact of options.artifacts ?? []) {
        await sleep(options.msBeforeName ?? 0)
        yield artifactOf(artifact, observed, ctx)
      }
      await reach('artifacts', options, ctx)
    },
    async census() {
      await reach('census', options, ctx)
      const objects =
        options.census ?? (options.artifacts ?? []).map(({ name, bytes }) => ({ name, rows: bytes }))
      const seen = level === 'counts' ? objects : objects.map(({ name }) => ({ name, rows: null }))
      return { level, at: 'snapshot', objects: level === 'none' ? [] : seen, unseen: [] }
    },
    async finish() {
      await reach('finish', options, ctx)
      observed.finished++
      return {
        kind: options.kind ?? 'logical',
        capturedAt: ctx.clock.now(),
        consistentAt: ctx.clock.now(),
        client: 'synthetic 1',
        options: {},
        ...(options.chain ? { chain: options.chain } : {}),
        warnings: options.warnings ?? [],
        ...(options.missing ? { missing: options.missing } : {}),
      }
    },
  } satisfies Omit<Session, typeof Symbol.asyncDispose>
}

function artifactOf(artifact: SyntheticArtifact, observed: Observed, ctx: Context): Artifact {
  let opened = false
  return {
    name: artifact.name,
    media: artifact.media ?? 'synthetic',
    role: 'data',
    ...(artifact.sizeHint === undefined ? {} : { sizeHint: artifact.sizeHint }),
    open() {
      if (opened) throw new Error(`${artifact.name} was opened twice`)
      opened = true
      observed.opened.push(artifact.name)
      return artifact.as === 'program' ? programOf(artifact) : observe(artifact, observed, ctx)
    },
  }
}

async function* observe(artifact: SyntheticArtifact, observed: Observed, ctx: Context): Bytes {
  observed.openNow++
  observed.openAtOnce = Math.max(observed.openAtOnce, observed.openNow)
  try {
    yield* brokenBytes(artifact, ctx)
    observed.drained.push(artifact.name)
  } finally {
    observed.openNow--
  }
}

async function* brokenBytes(artifact: SyntheticArtifact, ctx: Context): Bytes {
  const { name, breakAfter } = artifact
  for await (const chunk of syntheticStream(name, Math.min(artifact.bytes, breakAfter?.bytes ?? Infinity))) {
    if (artifact.msPerChunk) await sleep(artifact.msPerChunk, undefined, { signal: ctx.signal })
    yield chunk
  }
  if (breakAfter?.how === 'throw') throw broken(`in ${name}`)
  if (breakAfter?.how === 'hang') await untilAborted(ctx)
}

/** Another Node that writes the same bytes; `exec sleep` stands for a program that hangs. */
function programOf(artifact: SyntheticArtifact): Program {
  const { name, bytes, breakAfter } = artifact
  const code = `${syntheticChunk}
    const [name, bytes, end] = process.argv.slice(1)
    let at = 0
    const next = () => {
      while (at < Number(bytes)) {
        const chunk = syntheticChunk(name, at).subarray(0, Number(bytes) - at)
        at += chunk.length
        if (!process.stdout.write(chunk)) return process.stdout.once('drain', next)
      }
      if (end === 'hang') setInterval(() => {}, 1000)
      if (end === 'throw') { console.error('synthetic program failed'); process.exitCode = 1 }
    }
    next()`
  const until = Math.min(bytes, breakAfter?.bytes ?? Infinity)
  return { program: process.execPath, args: ['-e', code, name, String(until), breakAfter?.how ?? 'end'] }
}

const chunkBytes = 64 * 1024

/** The bytes that a synthetic artifact of this name and size has. */
async function* syntheticStream(name: string, bytes: number): Bytes {
  for (let at = 0; at < bytes; at += chunkBytes) yield syntheticChunk(name, at).subarray(0, bytes - at)
}

export function syntheticBytes(name: string, bytes: number): Uint8Array {
  const whole = new Uint8Array(bytes)
  for (let at = 0; at < bytes; at += chunkBytes)
    whole.set(syntheticChunk(name, at).subarray(0, bytes - at), at)
  return whole
}

/** 64 KiB of xorshift noise that depend on the name and the place; half of them repeat, so that they compress. Used as text, too. */
function syntheticChunk(name: string, at: number): Uint8Array {
  const words = new Uint32Array(16 * 1024)
  let state = 2_166_136_261 ^ at
  for (const letter of name) state = Math.imul(state ^ (letter.codePointAt(0) ?? 0), 16_777_619)
  state ||= 1
  for (let index = 0; index < words.length; index++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[index] = index % 2 === 0 ? state : 0x6e726963
  }
  return new Uint8Array(words.buffer)
}

/** A restorer into memory; it compares what it reads with what the names say it must be. */
export function syntheticRestorer(into: Map<string, Uint8Array>): Restorer {
  return {
    async plan(chain) {
      const names = chain.at(-1)?.artifacts.map(artifact => artifact.name) ?? []
      return { target: 'memory', steps: names, replaces: names.filter(name => into.has(name)), warnings: [] }
    },
    async apply(chain, pick, replace, read) {
      const fresh = new Map<string, Uint8Array>()
      for (const artifact of chain.at(-1)?.artifacts ?? []) {
        if (artifact.role !== 'data' || !(pick.only?.includes(artifact.name) ?? true)) continue
        if (into.has(artifact.name) && !replace) throw broken(`${artifact.name} is there already`)
        const chunks: Uint8Array[] = []
        for await (const chunk of read.open(artifact)) chunks.push(chunk)
        const bytes = Buffer.concat(chunks)
        if (!bytes.equals(syntheticBytes(artifact.name, bytes.length)))
          throw broken(`${artifact.name} differs`)
        fresh.set(artifact.name, bytes)
      }
      for (const [name, bytes] of fresh) into.set(name, bytes)
      const rows = [...fresh.values()].reduce((sum, bytes) => sum + bytes.length, 0)
      return { target: 'memory', objects: fresh.size, rows, warnings: [] }
    },
  }
}

type Place = 'inspect' | 'open' | 'artifacts' | 'census' | 'finish' | 'dispose'

async function reach(place: Exclude<Place, 'inspect' | 'dispose'>, options: SyntheticOptions, ctx: Context) {
  ctx.signal.throwIfAborted()
  failWhere(place, options)
  if (options.hangIn === place) await untilAborted(ctx)
}

function failWhere(place: Place, options: SyntheticOptions): void {
  if (options.failIn === place) throw broken(`in ${place}`)
}

function broken(where: string): Failure {
  return new Failure({
    what: 'the synthetic source failed',
    why: where,
    remedy: 'none: the test asked for it',
  })
}

function untilAborted(ctx: Context): Promise<never> {
  // A timer, because a promise alone does not keep the process alive.
  const timer = setInterval(() => {}, 60_000)
  return new Promise<never>((_resolve, reject) => {
    const end = (): void => {
      clearInterval(timer)
      reject(ctx.signal.reason)
    }
    if (ctx.signal.aborted) end()
    ctx.signal.addEventListener('abort', end, { once: true })
  })
}
