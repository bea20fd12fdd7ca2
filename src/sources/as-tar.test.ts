import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { capture } from '../../test/support/capture.ts'
import { placeFor, sourceContract } from '../../test/support/source-contract.ts'
import { syntheticBytes, syntheticSource } from '../../test/support/synthetic-source.ts'
import type { Restorer } from '../model/restore.ts'
import { flow } from '../platform/flow.ts'
import { asTar, memberHeader } from './as-tar.ts'

const names = [
  'plain',
  'a/b c',
  'é/😀',
  '-rf',
  'new\nline',
  'x'.repeat(100),
  `${'d'.repeat(99)}/${'y'.repeat(200)}`,
]

sourceContract('as one tar', async t => {
  const dir = folder(t)
  return {
    source: asTar('all.tar', syntheticSource({ artifacts: names.map(artifact) }), inner => inner.name),
    restorer: withGnuTar(dir),
    state: async () => null,
    async compare() {
      for (const [index, name] of names.entries()) {
        const expected = syntheticBytes(name, artifact(name, index).bytes)
        assert.ok(readFileSync(join(dir, name)).equals(expected), name)
      }
      assert.equal(
        readdirSync(dir, { recursive: true, withFileTypes: true }).filter(e => e.isFile()).length,
        names.length,
      )
    },
  }
})

test('at most one member is spooled at a time, and none when the reader goes away', async t => {
  const place = placeFor(t)
  const source = asTar('all.tar', syntheticSource({ artifacts: names.map(artifact) }), inner => inner.name)
  for (const leaveEarly of [false, true]) {
    await using session = await source.open({ name: 'unit' }, null, 'none', place.ctx)
    for await (const one of session.artifacts()) {
      let most = 0
      for await (const _ of flow(one.open(place.ctx), [], place.ctx)) {
        most = Math.max(most, readdirSync(place.ctx.spool).length)
        if (leaveEarly && most > 0) break
      }
      assert.equal(most, 1)
      assert.deepEqual(readdirSync(place.ctx.spool), [])
    }
  }
})

test('a member that breaks off breaks the archive, and leaves nothing in the spool', async t => {
  for (const as of ['bytes', 'program'] as const) {
    const place = placeFor(t)
    const breakAfter = { bytes: 70_000, how: 'throw' } as const
    const inner = syntheticSource({
      artifacts: [artifact('a', 1), { name: 'b', bytes: 200_000, as, breakAfter }],
    })
    await assert.rejects(
      capture(
        asTar('all.tar', inner, one => one.name),
        place.ctx,
      ),
      /synthetic/,
    )
    assert.equal(inner.observed.sessions[0]?.disposals, 1)
    place.demandClean()
  }
})

test('the last word of the inner source is heard, with what lies where', async t => {
  const inner = syntheticSource({ artifacts: [{ name: 'db', bytes: 5, media: 'sql' }] })
  const { facts } = await capture(
    asTar('all.tar', inner, one => `dump/${one.name}.sql`),
    placeFor(t).ctx,
  )
  assert.deepEqual(facts.options.members, [{ member: 'dump/db.sql', artifact: 'db', media: 'sql', bytes: 5 }])
  const failing = syntheticSource({ artifacts: [{ name: 'db', bytes: 5 }], failIn: 'finish' })
  await assert.rejects(
    capture(
      asTar('all.tar', failing, one => one.name),
      placeFor(t).ctx,
    ),
    /in finish/,
  )
})

test('a member that cannot fit is refused before it is made, one that does not fit after all fails', async t => {
  if (process.getuid?.() !== 0) return t.skip('only root can mount')
  const spool = mkdtempSync(join(tmpdir(), 'cairn-mount-'))
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', spool])
  t.after(() => {
    execFileSync('umount', [spool])
    rmdirSync(spool)
  })
  for (const [sizeHint, why] of [
    [1e13, /10.0 TB/],
    [0, /cannot spool/],
  ] as const) {
    const inner = syntheticSource({ artifacts: [{ name: 'a', bytes: 3_000_000, sizeHint }] })
    await assert.rejects(
      capture(
        asTar('all.tar', inner, one => one.name),
        { ...placeFor(t).ctx, spool },
      ),
      why,
    )
    assert.equal(inner.observed.opened.length, sizeHint > 0 ? 0 : 1)
    assert.deepEqual(readdirSync(spool), [])
  }
})

test('a member of more than 8 GiB has a header that GNU tar reads', t => {
  const path = join(folder(t), 'huge.tar')
  for (const bytes of [8 * 1024 ** 3 - 1, 8 * 1024 ** 3, 3 * 1024 ** 4]) {
    writeFileSync(path, memberHeader({ name: 'huge', bytes, modified: new Date('2026-11-21T02:00:00Z') }))
    execFileSync('truncate', ['-s', String(Math.ceil((2048 + bytes + 1024) / 512) * 512), path])
    const listed = execFileSync('tar', ['--list', '--verbose', '--utc', '-f', path], { encoding: 'utf8' })
    assert.match(listed, new RegExp(`^-rw------- 0/0 +${bytes} 2026-11-21 02:00 huge\n$`))
  }
})

test('names that lead out of the archive are never written', async t => {
  for (const name of ['', '/etc/passwd', '../up', 'a/../../b', 'nul\0']) {
    assert.throws(() => memberHeader({ name, bytes: 1, modified: new Date() }), /not a name/)
  }
  const inner = syntheticSource({ artifacts: names.map(artifact) })
  await assert.rejects(
    capture(
      asTar('all.tar', inner, () => 'same'),
      placeFor(t).ctx,
    ),
    /two members are named same/,
  )
})

function artifact(name: string, index: number): { name: string; bytes: number; as: 'bytes' | 'program' } {
  return {
    name,
    bytes: [0, 1, 511, 512, 513, 65_536, 200_001][index % 7] ?? 0,
    as: index === 6 ? 'program' : 'bytes',
  }
}

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'cairn-tar-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** What anybody would do with the archive. */
function withGnuTar(dir: string): Restorer {
  const nothing = { target: dir, objects: null, rows: null, warnings: [] }
  return {
    plan: async () => ({ target: dir, steps: ['tar -x'], replaces: readdirSync(dir), warnings: [] }),
    async apply(chain, _pick, replace, read) {
      if (!replace && readdirSync(dir).length > 0) throw new Error('not empty')
      const [record] = chain[0]?.artifacts ?? []
      assert.ok(record)
      await read.into(record, { program: 'tar', args: ['--extract', '--file=-', `--directory=${dir}`] })
      return nothing
    },
  }
}
