import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import { capture } from '../../../test/support/capture.ts'
import { readerOver } from '../../../test/support/reader.ts'
import { placeFor, sourceContract } from '../../../test/support/source-contract.ts'
import { syntheticBytes, syntheticSource } from '../../../test/support/synthetic-source.ts'
import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { Restorer } from '../../model/restore.ts'
import type { Source, SourceFacts } from '../../model/source.ts'
import { flow } from '../../platform/flow.ts'
import { archiveCheck } from './contents.ts'
import { type ArchiveMember, archiveSource } from './index.ts'
import { membersIn, membersIn as membersInSpool } from './pack.ts'
import { archiveRestorer } from './restorer.ts'

const names = [
  'plain',
  'a/b c',
  'é/😀',
  '-rf',
  'new\nline',
  'x'.repeat(100),
  `${'d'.repeat(99)}/${'y'.repeat(200)}`,
]

sourceContract('archive', async t => {
  const dir = folder(t)
  return {
    source: all(syntheticSource({ artifacts: names.map(artifact) })),
    restorer: withGnuTar(dir),
    state: async () => null,
    async compare() {
      for (const [index, name] of names.entries()) {
        const expected = syntheticBytes(name, artifact(name, index).bytes)
        assert.ok(readFileSync(join(dir, 'all', name)).equals(expected), name)
      }
      assert.equal(
        readdirSync(dir, { recursive: true, withFileTypes: true }).filter(e => e.isFile()).length,
        names.length,
      )
    },
  }
})

test('the archive is made when its sources were let go, and then the spool is empty again', async t => {
  const place = placeFor(t)
  const inner = syntheticSource({ artifacts: names.map(artifact) })
  for (const leaveEarly of [false, true]) {
    const session = await all(inner).open({ name: 'unit' }, null, 'none', place.ctx)
    const [one] = await Array.fromAsync(session.artifacts())
    await session.finish()
    await session[Symbol.asyncDispose]()
    assert.ok(one?.spooled)
    assert.equal(inner.observed.sessions.at(-1)?.disposals, 1)
    const list = { program: 'tar', args: ['--list', '--null', '--quoting-style=literal', '--file=-'] }
    const chunks = []
    for await (const chunk of flow(one.open(place.ctx), [list], place.ctx)) {
      chunks.push(chunk)
      if (leaveEarly) break
    }
    if (!leaveEarly) assert.match(Buffer.concat(chunks).toString(), /all\/new\nline/)
    await one.spooled[Symbol.asyncDispose]()
    assert.deepEqual(readdirSync(place.ctx.spool), [])
  }
})

test('a member that breaks off is left out and told; without any other there is no backup', async t => {
  for (const as of ['bytes', 'program'] as const) {
    const place = placeFor(t)
    const breakAfter = { bytes: 70_000, how: 'throw' } as const
    const broken = syntheticSource({ artifacts: [{ name: 'b', bytes: 200_000, as, breakAfter }] })
    const sound = syntheticSource({ artifacts: [{ name: 'a', bytes: 70_000 }] })
    const { facts, plain } = await captured(
      archiveSource('shop', [member('a', sound), member('b', broken)]),
      place.ctx,
    )
    assert.match(facts.missing?.[0]?.message ?? '', /synthetic/)
    assert.deepEqual(listOf(plain), ['a'])
    assert.deepEqual(
      [broken, sound].map(source => source.observed.sessions[0]?.disposals),
      [1, 1],
    )
    await assert.rejects(captured(archiveSource('shop', [member('b', broken)]), place.ctx), /synthetic/)
    place.demandClean()
  }
})

test('what cannot be looked at or opened is left out; what is optional is a warning only', async t => {
  const place = placeFor(t)
  for (const failIn of ['inspect', 'open'] as const) {
    const absent = syntheticSource({ artifacts: [{ name: 'b', bytes: 5 }], failIn })
    const sound = syntheticSource({ artifacts: [{ name: 'a', bytes: 5 }] })
    const source = archiveSource('shop', [member('b', absent), member('a', sound)])
    const { facts, plain } = await captured(source, place.ctx)
    assert.equal(facts.missing?.length, 1, failIn)
    assert.deepEqual(listOf(plain), ['a'])
    const optional = archiveSource('shop', [{ ...member('b', absent), optional: true }, member('a', sound)])
    const told = (await captured(optional, place.ctx)).facts
    assert.deepEqual([told.missing?.length, told.warnings.length], [0, 1])
  }
})

test('without a member that is required there is no archive, whenever it is lost', async t => {
  const place = placeFor(t)
  const sound = syntheticSource({ artifacts: [{ name: 'a', bytes: 5 }] })
  const breakAfter = { bytes: 70_000, how: 'throw' } as const
  const faults = [
    ...(['inspect', 'open', 'finish'] as const).map(failIn => ({
      artifacts: [{ name: 'b', bytes: 5 }],
      failIn,
    })),
    { artifacts: [{ name: 'b', bytes: 200_000, breakAfter }] },
  ]
  for (const fault of faults) {
    const lost = { ...member('b', syntheticSource(fault)), required: true }
    await assert.rejects(captured(archiveSource('shop', [member('a', sound), lost]), place.ctx), /synthetic/)
    place.demandClean()
  }
})

test('a session that lost a part is asked for its last word on the rest, and one that does not answer is left out', async t => {
  const sound = member('a', syntheticSource({ artifacts: [{ name: 'a', bytes: 5 }] }))
  const artifacts = [
    { name: 'kept', bytes: 5 },
    { name: 'lost', bytes: 200_000, breakAfter: { bytes: 70_000, how: 'throw' } as const },
  ]
  for (const [options, held] of [
    [{ artifacts }, ['a', 'b/kept']],
    [{ artifacts, failIn: 'finish' }, ['a']],
    [{ artifacts: artifacts.slice(0, 1), hangIn: 'finish' }, ['a']],
  ] as const) {
    const over = new AbortController()
    // Who hangs is waited for until then; all else may take its time.
    const stallMs = 'hangIn' in options ? 2_000 : 60_000
    const ctx = { ...placeFor(t).ctx, stallMs, signal: over.signal }
    const rest = { ...member('b', syntheticSource(options)), isFolder: true }
    const { plain, facts } = await captured(archiveSource('shop', [sound, rest]), ctx)
    assert.deepEqual(listOf(plain), held)
    assert.equal(facts.missing?.length, 1)
    // Who hangs does so until then.
    over.abort()
  }
})

test('the census does not wait for a member that is lost', async t => {
  const breakAfter = { bytes: 70_000, how: 'throw' } as const
  const lost = syntheticSource({ artifacts: [{ name: 'b', bytes: 200_000, breakAfter }] })
  // As that of files, which is known when they were read.
  const never: Source = {
    ...lost,
    open: async (...args) => ({ ...(await lost.open(...args)), census: () => new Promise(() => {}) }),
  }
  const sound = syntheticSource({ artifacts: [{ name: 'a', bytes: 5 }] })
  const { ctx } = placeFor(t)
  const source = archiveSource('shop', [member('a', sound), member('b', never)])
  await using session = await source.open({ name: 'shop' }, null, 'counts', ctx)
  const counting = session.census()
  for await (const one of session.artifacts()) await one.spooled?.[Symbol.asyncDispose]()
  const patience = new AbortController()
  const census = await Promise.race([counting, sleep(20_000, null, patience)])
  patience.abort()
  assert.deepEqual(
    census?.objects.map(({ name }) => name),
    ['a: a'],
  )
})

test('a source that takes back what it gave counts as missing, with what lies where', async t => {
  const inner = syntheticSource({ artifacts: [{ name: 'db', bytes: 5, media: 'sql' }] })
  const { facts } = await captured(archiveSource('shop', [member('db.sql', inner)]), placeFor(t).ctx)
  assert.deepEqual(facts.options.members, [{ member: 'db.sql', media: 'sql', bytes: 5 }])
  const failing = syntheticSource({ artifacts: [{ name: 'db', bytes: 5 }], failIn: 'finish' })
  await assert.rejects(captured(archiveSource('shop', [member('db', failing)]), placeFor(t).ctx), /in finish/)
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
    [0, /cannot spool a in .*ENOSPC/],
  ] as const) {
    const inner = syntheticSource({ artifacts: [{ name: 'a', bytes: 3_000_000, sizeHint }] })
    await assert.rejects(
      captured(archiveSource('shop', [member('a', inner)]), { ...placeFor(t).ctx, spool }),
      why,
    )
    assert.equal(inner.observed.opened.length, sizeHint > 0 ? 0 : 1)
    assert.deepEqual(readdirSync(spool), [])
  }
  // The last bytes of pg_dump get lost without its noticing.
  const program = { program: 'sh', args: ['-c', 'head -c 1050000 /dev/zero 2>/dev/null; exit 0'] }
  const members = membersIn(spool)
  const one = { name: 'a', media: 'sql', role: 'data', open: () => program } as const
  await assert.rejects(members.add('a', one, [], { ...placeFor(t).ctx, spool }), {
    what: `cannot spool a in ${spool}`,
    why: /No space left/,
    remedy: /CAIRN_SPOOL/,
  })
  assert.deepEqual(members.packed, [])
})

test('without tar nothing is read', async t => {
  const inner = syntheticSource({ artifacts: [artifact('a', 1)] })
  const before = process.env.PATH
  t.after(() => {
    process.env.PATH = before
  })
  process.env.PATH = folder(t)
  await assert.rejects(captured(archiveSource('shop', [member('a', inner)]), placeFor(t).ctx), {
    what: 'cannot run tar',
    exit: 2,
  })
  assert.equal(inner.observed.sessions.length, 0)
})

test('a member that is empty and was not is found', async t => {
  const dir = folder(t)
  writeFileSync(join(dir, 'a'), '')
  mkdirSync(join(dir, 'dump'))
  writeFileSync(join(dir, 'dump', 'toc.dat'), '12345')
  const tar = () => execFileSync('tar', ['--create', '--file=-', `--directory=${dir}`, 'a', 'dump'])
  const listed = [
    { member: 'a', bytes: 5 },
    { member: 'dump', bytes: 5 },
  ]
  const look = () => archiveCheck([], listed)(asBytes(tar()), placeFor(t).ctx)
  await assert.rejects(look(), /its member a has another size/)
  writeFileSync(join(dir, 'a'), '12345')
  assert.equal(await look(), '2 members')
})

async function* asBytes(bytes: Buffer) {
  yield bytes
}

test('a member of more than 8 GiB is packed with its whole size', async t => {
  const { ctx } = placeFor(t)
  const bytes = 9 * 1024 ** 3
  await using members = membersInSpool(ctx.spool)
  const intoFolder = async (path: string) => {
    mkdirSync(path)
    // A hole: nothing of it lies on the disk.
    execFileSync('truncate', [`--size=${bytes}`, join(path, 'huge')])
    return ['huge']
  }
  const huge = { name: 'x', media: 'x', role: 'data' as const, open: () => assert.fail(), intoFolder }
  await members.add('all', huge, [], ctx)
  const { program, args } = await members.tar()
  const tar = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => tar.kill())
  const [header] = (await once(tar.stdout, 'data')) as [Buffer]
  assert.equal(header.toString('latin1', 0, 9), 'all/huge\0')
  // GNU's number of base 256, where octal digits do not suffice.
  assert.equal(header.readBigUInt64BE(128), BigInt(bytes))
})

test('names that lead out of the archive are never written', async t => {
  for (const name of ['', '/etc/passwd', '../up', 'a/../../b', 'nul\0', 'a//b', './a']) {
    const inner = syntheticSource({ artifacts: [artifact('a', 1)] })
    await assert.rejects(
      captured(archiveSource('shop', [member(name, inner)]), placeFor(t).ctx),
      /cannot be the name of a member/,
    )
  }
  const inner = syntheticSource({ artifacts: [artifact('a', 1), artifact('b', 1)] })
  await assert.rejects(
    captured(archiveSource('shop', [member('same', inner)]), placeFor(t).ctx),
    /two members are named same/,
  )
})

test('members can be compressed by themselves, and a dump in a folder becomes that folder', async t => {
  const dir = folder(t)
  mkdirSync(join(dir, 'shop-backup'))
  for (const [name, bytes] of [
    ['toc.dat', 700],
    ['1.dat', 20_000],
    ['y'.repeat(180), 3],
  ] as const)
    writeFileSync(join(dir, 'shop-backup', name), Buffer.alloc(bytes, name))
  const media = 'pg_dump-directory'
  const dumped = syntheticSource({ artifacts: [{ name: 'x', bytes: 1, media }] })
  const spliced: Source = {
    ...dumped,
    async open(...args) {
      const session = await dumped.open(...args)
      return {
        ...session,
        async *artifacts() {
          const intoFolder = async (path: string) => {
            cpSync(join(dir, 'shop-backup'), path, { recursive: true })
            return ['toc.dat', '1.dat', 'y'.repeat(180)]
          }
          yield { name: 'x', media, role: 'data' as const, open: () => assert.fail(), intoFolder }
        },
      }
    },
  }
  const zipped = {
    ...member('a.gz', syntheticSource({ artifacts: [{ name: 'a', bytes: 5000 }] })),
    steps: [gzip],
  }
  const { plain } = await captured(
    archiveSource('shop', [member('shop-backup', spliced), zipped]),
    placeFor(t).ctx,
  )
  assert.deepEqual(listOf(plain).slice(0, 2), ['shop-backup/toc.dat', 'shop-backup/1.dat'])
  const out = folder(t)
  execFileSync('tar', ['--extract', '--file=-', `--directory=${out}`], { input: plain })
  for (const name of readdirSync(join(dir, 'shop-backup')))
    assert.ok(
      readFileSync(join(out, 'shop-backup', name)).equals(readFileSync(join(dir, 'shop-backup', name))),
      name,
    )
  assert.ok(gunzipSync(readFileSync(join(out, 'a.gz'))).equals(syntheticBytes('a', 5000)))
})

const gzip = { program: 'gzip', args: ['-c'] }

/** Everything of a source in a folder of the archive. */
test('a restore touches nothing before the archive was read whole and every member has a plan for what it is', async t => {
  const { ctx } = placeFor(t)
  const told: string[] = []
  let isShut = false
  const restorer: Restorer = {
    async plan() {
      if (isShut) throw usage('cannot restore to x', 'it is mounted read-only', 'mount it')
      return { target: 'x', steps: ['writes'], replaces: [], warnings: [] }
    },
    async apply(_chain, _pick, _replace, _read, _ctx, ready) {
      assert.equal(ready, undefined)
      told.push('apply')
      return { target: 'x', objects: null, rows: null, warnings: [] }
    },
  }
  const by = (content: Buffer) => {
    told.push(`head of ${content.length}`)
    return { engine: 'file', media: 'file', restorer }
  }
  const common = { role: 'data', artifact: 'x', options: {}, undo: [], by } as const
  const whole = archiveRestorer(['a', 'b'].map(name => ({ ...common, name, unit: name })))
  const sound = (name: string) => member(name, syntheticSource({ artifacts: [{ name, bytes: 5 }] }))
  const { manifest, bytes, reader } = await capture(archiveSource('shop', [sound('a'), sound('b')]), ctx)
  const pick = { allow: new Set<string>() }
  const restored = (read = reader) =>
    whole.apply([manifest], pick, true, read, ctx, async () => void told.push('ready'))
  const cut = new Map([...bytes].map(([name, plain]) => [name, plain.subarray(0, 1000)]))
  await assert.rejects(restored(readerOver(cut, ctx)))
  assert.deepEqual(told.splice(0), [])
  await restored()
  assert.deepEqual(told.splice(0), [
    'head of 5',
    'head of 5',
    'ready',
    'head of 5',
    'apply',
    'head of 5',
    'apply',
  ])
  isShut = true
  await assert.rejects(restored(), {
    exit: 2,
    message: /touched: .*to x: .*; cannot.*to x: /,
    remedy: 'mount it',
  })
  assert.deepEqual(told, ['head of 5', 'head of 5'])
  assert.deepEqual(readdirSync(ctx.spool), [])
})

function all(source: Source): Source {
  return archiveSource('shop', [{ ...member('all', source), isFolder: true }])
}

function member(name: string, source: Source): ArchiveMember {
  return { name, source, isFolder: false, optional: false, steps: [] }
}

/** The archive, as it would be stored, and what its source says of it. */
async function captured(source: Source, ctx: Context): Promise<{ plain: Buffer; facts: SourceFacts }> {
  await source.inspect(ctx)
  await using session = await source.open({ name: 'shop' }, null, 'none', ctx)
  const chunks: Uint8Array[] = []
  for await (const one of session.artifacts()) {
    await using _spooled = one.spooled
    for await (const chunk of flow(one.open(ctx), [], ctx)) chunks.push(chunk)
  }
  return { plain: Buffer.concat(chunks), facts: await session.finish() }
}

function listOf(archive: Buffer): string[] {
  return execFileSync('tar', ['--list', '--file=-'], { input: archive, encoding: 'utf8' })
    .split('\n')
    .filter(Boolean)
}

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
      const args = ['--extract', '--file=-', `--directory=${dir}`]
      await read.into(record, { program: 'tar', endsEarly: true, args })
      return nothing
    },
  }
}
