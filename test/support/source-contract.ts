import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Context } from '../../src/model/context.ts'
import type { Restorer } from '../../src/model/restore.ts'
import type { Artifact, Session, Source } from '../../src/model/source.ts'
import { flow } from '../../src/platform/flow.ts'
import { capture } from './capture.ts'
import { testContext } from './context.ts'

/** A source to hold to the contract, with some data in it, and an empty target. */
export interface OpenedSource {
  readonly source: Source
  /** Onto a target that is empty and that only this test uses. */
  readonly restorer: Restorer
  /** Anything that is deeply equal as long as the source was not changed. */
  state(): Promise<unknown>
  /** Throws when the target does not hold what the source holds. */
  compare(): Promise<void>
}

export interface SourceExcuses {
  /** The whole suite is skipped: the server is not there. */
  readonly skip?: string
  readonly timeoutMs?: number
}

/**
 * Registers tests that hold a source to every sentence of the Source and Session contracts. `open` gives each test
 * a source of its own and cleans up with `t.after`.
 */
export function sourceContract(
  name: string,
  open: (t: TestContext) => Promise<OpenedSource>,
  excuses: SourceExcuses = {},
): void {
  const options = { timeout: excuses.timeoutMs ?? 60_000, ...(excuses.skip && { skip: excuses.skip }) }
  const rule = (title: string, check: (opened: OpenedSource, place: Place) => Promise<void>): void => {
    test(`${name}: ${title}`, options, async t => {
      const place = placeFor(t)
      await check(await open(t), place)
      place.demandClean()
    })
  }
  sources(rule)
  sessions(rule)
  interruptions(rule)
  restores(rule)
}

type Rule = (title: string, check: (opened: OpenedSource, place: Place) => Promise<void>) => void

function sources(rule: Rule): void {
  rule('inspect changes nothing and says the same twice', async ({ source, state }, { ctx }) => {
    const before = await state()
    const first = await source.inspect(ctx)
    assert.deepEqual(await source.inspect(ctx), first)
    assert.deepEqual(await state(), before)
    assert.match(source.engine, /^[a-z0-9-]+$/)
    assert.notEqual(first.identity, '')
    assert.notEqual(first.version, '')
    assert.ok(first.units.length > 0 && first.estimate >= 0)
  })

  rule(
    'a session that is opened and disposed at once changes nothing',
    async ({ source, state }, { ctx }) => {
      const before = await state()
      const session = await opened(source, ctx)
      await session[Symbol.asyncDispose]()
      assert.deepEqual(await state(), before)
    },
  )

  rule('open after an abort throws its reason and holds nothing', async ({ source }, { ctx, controller }) => {
    const [unit] = (await source.inspect(ctx)).units
    assert.ok(unit)
    const reason = new Error('told to stop')
    controller.abort(reason)
    const attempt = async (): Promise<void> => {
      await using session = await source.open(unit, null, 'counts', ctx)
      // A source that holds nothing yet may notice only now.
      for await (const artifact of session.artifacts()) await drained(artifact, ctx)
    }
    await assert.rejects(attempt, error => error === reason)
  })
}

function sessions(rule: Rule): void {
  rule('a session can be disposed twice, before and after its artifacts', async ({ source }, { ctx }) => {
    const early = await opened(source, ctx)
    await early[Symbol.asyncDispose]()
    await early[Symbol.asyncDispose]()
    const late = await opened(source, ctx)
    for await (const artifact of late.artifacts()) await drained(artifact, ctx)
    await late.finish()
    await late[Symbol.asyncDispose]()
    await late[Symbol.asyncDispose]()
  })

  rule('artifacts have unique names, a media type and bytes', async ({ source }, { ctx }) => {
    const { manifest, bytes, facts } = await capture(source, ctx)
    assert.equal(bytes.size, manifest.artifacts.length)
    assert.ok(bytes.size > 0)
    for (const artifact of manifest.artifacts) assert.notEqual(artifact.media, '')
    assert.doesNotThrow(() => JSON.stringify(facts.options))
    assert.ok(facts.capturedAt <= facts.consistentAt)
    assert.notEqual(facts.client, '')
  })

  rule('an artifact that nobody asks for is not made', async ({ source, state }, { ctx }) => {
    const before = await state()
    await using session = await opened(source, ctx)
    for await (const artifact of session.artifacts()) {
      await using _spooled = artifact.spooled
      assert.equal(typeof artifact.open, 'function')
      break
    }
    await session[Symbol.asyncDispose]()
    assert.deepEqual(await state(), before)
  })

  for (const level of ['none', 'objects', 'counts'] as const) {
    rule(
      `a census of level ${level}, taken beside the artifacts, says what it was asked`,
      async ({ source }, { ctx }) => {
        await using session = await opened(source, ctx, level)
        const counting = session.census()
        for await (const artifact of session.artifacts()) await drained(artifact, ctx)
        const census = await counting
        assert.equal(census.level, level)
        if (level === 'none') assert.deepEqual(census.objects, [])
        else assert.ok(census.objects.length > 0)
        if (level === 'objects') assert.ok(census.objects.every(object => object.rows === null))
        if (level === 'counts') assert.ok(census.objects.some(object => (object.rows ?? 0) > 0))
        const names = census.objects.map(object => object.name)
        assert.equal(new Set(names).size, names.length)
      },
    )
  }
}

function interruptions(rule: Rule): void {
  rule('an artifact whose reader goes away leaves nothing behind', async ({ source, state }, { ctx }) => {
    const before = await state()
    const session = await opened(source, ctx)
    for await (const artifact of session.artifacts()) {
      await using _spooled = artifact.spooled
      for await (const _ of flow(artifact.open(ctx), artifact.through ?? [], ctx)) break
      break
    }
    await session[Symbol.asyncDispose]()
    assert.deepEqual(await state(), before)
  })

  rule('an abort amid an artifact throws its reason and leaves nothing behind', async ({ source }, place) => {
    const { ctx, controller } = place
    const reason = new Error('told to stop')
    const session = await opened(source, ctx)
    const attempt = async (): Promise<void> => {
      for await (const artifact of session.artifacts()) {
        await using _spooled = artifact.spooled
        let bytes = 0
        for await (const chunk of flow(artifact.open(ctx), artifact.through ?? [], ctx)) {
          bytes += chunk.length
          controller.abort(reason)
        }
        assert.ok(bytes >= 0)
        ctx.signal.throwIfAborted()
      }
    }
    await assert.rejects(attempt, error => error === reason)
    await session[Symbol.asyncDispose]()
  })
}

function restores(rule: Rule): void {
  rule(
    'what it yields restores onto an empty target, equal',
    async ({ source, restorer, compare }, { ctx }) => {
      const { manifest, reader } = await capture(source, ctx)
      const nothing = { allow: new Set<string>() }
      const plan = await restorer.plan([manifest], nothing, ctx)
      assert.deepEqual(plan.replaces, [])
      assert.ok(plan.steps.length > 0)
      await restorer.apply([manifest], nothing, false, reader, ctx)
      await compare()
    },
  )

  rule('a target that is not empty needs consent', async ({ source, restorer, compare }, { ctx }) => {
    const { manifest, reader } = await capture(source, ctx)
    const nothing = { allow: new Set<string>() }
    await restorer.apply([manifest], nothing, false, reader, ctx)
    const plan = await restorer.plan([manifest], nothing, ctx)
    assert.ok(plan.replaces.length > 0)
    await assert.rejects(restorer.apply([manifest], nothing, false, reader, ctx))
    await compare()
    await restorer.apply([manifest], nothing, true, reader, ctx)
    await compare()
  })
}

async function opened(
  source: Source,
  ctx: Context,
  level: 'none' | 'objects' | 'counts' = 'counts',
): Promise<Session> {
  const [unit] = (await source.inspect(ctx)).units
  assert.ok(unit)
  return source.open(unit, null, level, ctx)
}

async function drained(artifact: Artifact, ctx: Context): Promise<void> {
  await using _spooled = artifact.spooled
  for await (const _ of flow(artifact.open(ctx), artifact.through ?? [], ctx));
}

/** Where a test works, so that what is left behind is seen. */
interface Place {
  readonly ctx: Context
  readonly controller: AbortController
  /** Throws when files or processes are left. */
  demandClean(): void
}

export function placeFor(t: TestContext): Place {
  const root = mkdtempSync(join(tmpdir(), 'cairn-contract-'))
  t.after(() => rmSync(root, { recursive: true, force: true }))
  const dir = join(root, 'dir')
  const spool = join(root, 'spool')
  for (const folder of [dir, spool]) mkdirSync(folder)
  const controller = new AbortController()
  const ctx = testContext({ dir, spool, signal: controller.signal })
  return {
    ctx,
    controller,
    demandClean() {
      assert.deepEqual(readdirSync(dir), [], 'small files are left')
      assert.deepEqual(readdirSync(spool), [], 'the spool is not empty')
      assert.deepEqual(childrenWith(dir), [], 'programs are left')
    },
  }
}

/** Processes that were given this folder as their HOME. */
function childrenWith(home: string): string[] {
  return readdirSync('/proc').filter(pid => {
    if (!/^\d+$/.test(pid)) return false
    try {
      return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(`HOME=${home}`)
    } catch {
      return false
    }
  })
}
