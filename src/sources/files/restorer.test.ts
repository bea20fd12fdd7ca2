import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { capture } from '../../../test/support/capture.ts'
import { runAsNobody } from '../../../test/support/nobody.ts'
import { contextOf, folder, isRoot, mounted, smallDisk } from '../../../test/support/places.ts'
import { readerOver } from '../../../test/support/reader.ts'
import {
  backupOf,
  describeTree,
  type Forged,
  forge,
  hostileTree,
  pick,
  sourceOf,
} from '../../../test/support/trees.ts'
import { Failure } from '../../model/failure.ts'
import { filesRestorer } from './restorer.ts'

test('an archive that wants to write outside is refused, and writes nothing anywhere', async t => {
  const outside = folder(t)
  const cases: Record<string, Forged[]> = {
    'a member with ..': [{ name: '../escaped', content: 'x' }],
    'a member with .. inside': [{ name: './a/../../../escaped', content: 'x' }],
    'an absolute member': [{ name: join(outside, 'escaped'), content: 'x' }],
    'a file through an absolute link': [
      { name: './way', type: 'symlink', to: outside },
      { name: './way/escaped', content: 'x' },
    ],
    'a file through a relative link': [
      { name: './way', type: 'symlink', to: '../../../..' },
      { name: './way/escaped', content: 'x' },
    ],
    'a file through two links': [
      { name: './a', type: 'symlink', to: '.' },
      { name: './a/b', type: 'symlink', to: '../../..' },
      { name: './a/b/escaped', content: 'x' },
    ],
    'a folder in the place of a link': [
      { name: './way', type: 'symlink', to: outside },
      { name: './way', type: 'folder' },
      { name: './way/../../escaped', content: 'x' },
    ],
    'a hard link to a file outside': [
      { name: './hard', type: 'link', to: join(outside, 'victim') },
      { name: './hard', content: 'overwritten' },
    ],
    'a hard link upwards': [{ name: './hard', type: 'link', to: '../victim' }],
  }
  for (const [title, members] of Object.entries(cases)) {
    const parent = folder(t)
    writeFileSync(join(outside, 'victim'), 'unharmed')
    writeFileSync(join(parent, 'victim'), 'unharmed')
    const target = join(parent, 'target')
    mkdirSync(target)
    const ctx = contextOf(t)
    const { manifest, reader } = backupOf(forge({ name: './', type: 'folder' }, ...members), ctx, {
      path: target,
    })
    await assert.rejects(
      filesRestorer({}).apply([manifest], pick, false, reader, ctx),
      error => error instanceof Failure,
      title,
    )
    assert.deepEqual(readdirSync(target), [], title)
    assert.deepEqual(readdirSync(parent), ['target', 'victim'], title)
    assert.deepEqual(readdirSync(outside), ['victim'], title)
    for (const dir of [outside, parent])
      assert.equal(readFileSync(join(dir, 'victim'), 'utf8'), 'unharmed', title)
  }
})

test('links that lead outside come back as links, and nothing follows them', async t => {
  const target = join(folder(t), 'target')
  const outside = folder(t)
  mkdirSync(target)
  symlinkSync(outside, join(target, 'way'))
  const ctx = contextOf(t)
  const archive = forge({ name: './way', type: 'folder' }, { name: './way/file', content: 'x' })
  const { manifest, reader } = backupOf(archive, ctx, { path: target })
  await filesRestorer({}).apply([manifest], pick, true, reader, ctx)
  assert.deepEqual(readdirSync(outside), [])
  assert.ok(statSync(join(target, 'way', 'file')).isFile())
})

test('setuid files and device nodes come back only with consent', async t => {
  if (!isRoot) return t.skip('only root can make device nodes')
  const cases: [Forged, string][] = [
    [{ name: './sh', content: '#!', mode: 0o4755 }, 'setuid'],
    [{ name: './sh', content: '#!', mode: 0o2755 }, 'setuid'],
    [{ name: './disk', type: 'block' }, 'devices'],
    [{ name: './null', type: 'char' }, 'devices'],
  ]
  for (const [member, consent] of cases) {
    const target = join(folder(t), 'target')
    const ctx = contextOf(t)
    const { manifest, reader } = backupOf(forge({ name: './harmless' }, member), ctx, { path: target })
    const restorer = filesRestorer({})
    await assert.rejects(restorer.apply([manifest], pick, false, reader, ctx), error => {
      assert.ok(error instanceof Failure)
      assert.match(error.why, new RegExp(member.name.slice(2)))
      assert.match(error.remedy, new RegExp(`--allow ${consent}`))
      return true
    })
    assert.ok(!existsSync(target))
    await restorer.apply([manifest], { allow: new Set([consent]) }, false, reader, ctx)
    assert.equal(readdirSync(target).length, 2)
  }
})

test('a setgid folder is no danger', async t => {
  const target = join(folder(t), 'target')
  const ctx = contextOf(t)
  const { manifest, reader } = backupOf(forge({ name: './shared', type: 'folder', mode: 0o2775 }), ctx, {
    path: target,
  })
  await filesRestorer({}).apply([manifest], pick, false, reader, ctx)
  assert.equal(statSync(join(target, 'shared')).mode & 0o7777, 0o2775)
})

test('with consent, entries of the same name are replaced whole, and others stay', async t => {
  const target = join(folder(t), 'target')
  mkdirSync(join(target, 'data'), { recursive: true })
  for (const name of ['data/old', 'data/both', 'other']) writeFileSync(join(target, name), 'old')
  const ctx = contextOf(t)
  const archive = forge(
    { name: './data', type: 'folder' },
    { name: './data/both', content: 'new' },
    { name: './fresh' },
  )
  const { manifest, reader } = backupOf(archive, ctx, { path: target })
  const restorer = filesRestorer({})
  const plan = await restorer.plan([manifest], pick, ctx)
  assert.deepEqual(plan.replaces, [join(target, 'data'), join(target, 'other')])
  await assert.rejects(restorer.apply([manifest], pick, false, reader, ctx), /there is/)
  await restorer.apply([manifest], pick, true, reader, ctx)
  assert.deepEqual(readdirSync(target), ['data', 'fresh', 'other'])
  assert.deepEqual(readdirSync(join(target, 'data')), ['both'])
  assert.equal(readFileSync(join(target, 'data', 'both'), 'utf8'), 'new')
})

test('a mount point can be restored into', async t => {
  const target = smallDisk(t, 16)
  if (!target) return
  const tree = hostileTree(t)
  const ctx = contextOf(t)
  const { manifest, reader } = await capture(sourceOf({ path: tree, name: 'data' }), ctx)
  const [place] = (manifest.source.options.paths as { path: string }[]) ?? []
  assert.ok(place)
  const moved = {
    ...manifest,
    source: { ...manifest.source, options: { paths: [{ ...place, path: target }] } },
  }
  await filesRestorer({}).apply([moved], pick, false, reader, ctx)
  assert.deepEqual(describeTree(target), describeTree(tree))
})

test('a full disk makes the restore fail, and leaves the target as it was', async t => {
  const disk = smallDisk(t, 4)
  if (!disk) return
  writeFileSync(join(disk, 'kept'), 'kept')
  const ctx = contextOf(t)
  const archive = forge({ name: './large', content: 'x'.repeat(8_000_000) })
  const { manifest, reader } = backupOf(archive, ctx, { path: disk })
  const restorer = filesRestorer({})
  await assert.rejects(restorer.apply([manifest], pick, true, reader, ctx), /are needed in .* are free/)
  // Where nobody knows how large it will be, the disk itself says so.
  const [artifact] = manifest.artifacts
  assert.ok(artifact)
  const unknown = {
    ...artifact,
    plain: { bytes: null, sha256: null },
    stored: { ...artifact.stored, bytes: 100 },
  }
  await assert.rejects(
    restorer.apply([{ ...manifest, artifacts: [unknown] }], pick, true, reader, ctx),
    error => {
      return error instanceof Failure && /make room/.test(error.remedy)
    },
  )
  assert.deepEqual(readdirSync(disk), ['kept'])
})

test('a backup that breaks off leaves the target as it was', async t => {
  const parent = folder(t)
  const ctx = contextOf(t)
  const archive = forge(
    ...Array.from({ length: 200 }, (_, n) => ({ name: `./f${n}`, content: 'x'.repeat(10_000) })),
  )
  const broken = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
    yield archive.subarray(0, 1_000_000)
    throw new Error('the store went away')
  }
  for (const kept of [broken, archive.subarray(0, 1_005_000), Buffer.from('no archive'.repeat(1000))]) {
    const target = join(parent, 'new', 'er')
    const { manifest, reader } = backupOf(archive, ctx, { path: target }, kept)
    await assert.rejects(filesRestorer({}).apply([manifest], pick, false, reader, ctx))
    assert.deepEqual(readdirSync(parent), [], 'the folders that were made are gone')
  }
})

test('one of several archives that fails keeps all of them away', async t => {
  const tree = folder(t)
  for (const name of ['a', 'b']) {
    mkdirSync(join(tree, name))
    writeFileSync(join(tree, name, 'file'), name)
  }
  const ctx = contextOf(t)
  const { manifest, bytes } = await capture(sourceOf(join(tree, 'a'), join(tree, 'b')), ctx)
  const reader = readerOver(new Map([...bytes, ['files/b.tar', Buffer.from('broken')]]), ctx)
  const to = folder(t)
  await assert.rejects(filesRestorer({ to }).apply([manifest], pick, false, reader, ctx))
  assert.deepEqual(readdirSync(to), [])
  await filesRestorer({ to }).apply([manifest], { ...pick, only: ['a'] }, false, reader, ctx)
  assert.deepEqual(readdirSync(to), ['a'])
})

test('a failure amid the moves takes them back', async t => {
  if (!isRoot) return t.skip('only root can mount')
  const target = folder(t)
  for (const name of ['a', 'b', 'z']) mkdirSync(join(target, name))
  writeFileSync(join(target, 'a', 'old'), 'old')
  const disk = mounted(t, '-t', 'tmpfs', 'tmpfs')
  assert.ok(disk)
  execFileSync('mount', ['--bind', disk, join(target, 'z')])
  const ctx = contextOf(t)
  try {
    const { manifest, reader } = backupOf(
      forge({ name: './a' }, { name: './b' }, { name: './new' }, { name: './z' }),
      ctx,
      {
        path: target,
      },
    )
    await assert.rejects(filesRestorer({}).apply([manifest], pick, true, reader, ctx), /mounted/)
  } finally {
    execFileSync('umount', [join(target, 'z')])
  }
  assert.deepEqual(readdirSync(target), ['a', 'b', 'z'])
  assert.equal(readFileSync(join(target, 'a', 'old'), 'utf8'), 'old')
})

test('a restore that is killed leaves the target as it was, and the next one clears up after it', async t => {
  const target = join(folder(t), 'target')
  mkdirSync(target)
  writeFileSync(join(target, 'old'), 'old')
  const url = (path: string): string => new URL(path, import.meta.url).href
  const code = `
    const { contextOf, forge, backupOf, pick } = await import('${url('../../../test/support/trees.ts')}')
    const { filesRestorer } = await import('${url('./restorer.ts')}')
    const { testContext } = await import('${url('../../../test/support/context.ts')}')
    const ctx = testContext()
    const archive = forge(...Array.from({ length: 300 }, (_, n) => ({ name: './f' + n, content: 'x'.repeat(10000) })))
    const slow = async function* () {
      for (let at = 0; at < archive.length; at += 100000) {
        yield Uint8Array.from(archive.subarray(at, at + 100000))
        if (at !== 700000) continue
        console.log('half-way')
        await new Promise(resolve => setTimeout(resolve, 60_000))
      }
    }
    const { manifest, reader } = backupOf(archive, ctx, { path: process.argv[1] }, slow)
    await filesRestorer({}).apply([manifest], pick, true, reader, ctx)`
  const child = spawn(process.execPath, ['--no-warnings', '--input-type=module', '-e', code, target], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  await once(child.stdout, 'data')
  child.kill('SIGKILL')
  assert.equal((await exited)[1], 'SIGKILL')
  assert.deepEqual(readdirSync(target), ['.cairn-restore', 'old'])
  assert.equal(readdirSync(join(target, '.cairn-restore')).length, 1)

  const ctx = contextOf(t)
  const { manifest, reader } = backupOf(forge({ name: './new' }), ctx, { path: target })
  await filesRestorer({}).apply([manifest], pick, true, reader, ctx)
  assert.deepEqual(readdirSync(target), ['new', 'old'])
})

test('what a killed restore had moved away is left alone and named, and is no part of a backup of staging', async t => {
  const target = folder(t)
  mkdirSync(join(target, '.cairn-replaced-12345678'))
  mkdirSync(join(target, '.cairn-restore', 'x'), { recursive: true })
  writeFileSync(join(target, 'a'), 'a')
  const ctx = contextOf(t)
  const { manifest, census } = await capture(sourceOf({ path: target, name: 'data' }), ctx)
  assert.equal(census.objects[0]?.rows, 3)
  const plan = await filesRestorer({}).plan([manifest], pick, ctx)
  assert.deepEqual(plan.replaces, [join(target, 'a')])
  assert.match(
    plan.warnings.join(),
    /\.cairn-replaced-12345678 holds what an interrupted restore had moved away/,
  )
})

test('who is not root restores all but the owners, read-only folders included', async t => {
  const to = mkdtempSync(join(tmpdir(), 'cairn-nobody-'))
  t.after(() => rmSync(to, { recursive: true, force: true }))
  chmodSync(to, 0o777)
  const said = runAsNobody(
    t,
    `const { testContext } = await from('test/support/context.ts')
    const { filesRestorer } = await from('src/sources/files/restorer.ts')
    const { backupOf, forge, pick } = await from('test/support/trees.ts')
    const { mkdirSync, readdirSync, chmodSync, statSync } = await import('node:fs')
    const target = process.argv[1] + '/target'
    const ctx = testContext()
    const archive = forge({ name: './', type: 'folder', mode: 0o555 }, { name: './shut', type: 'folder', mode: 0o555 }, { name: './shut/file' })
    const { manifest, reader } = backupOf(archive, ctx, { path: target })
    const restorer = filesRestorer({})
    console.log((await restorer.plan([manifest], pick, ctx)).warnings.join())
    await restorer.apply([manifest], pick, false, reader, ctx)
    console.log((statSync(target).mode & 0o777).toString(8), (statSync(target + '/shut').mode & 0o777).toString(8), readdirSync(target + '/shut').join())
    chmodSync(target, 0o755)
    await restorer.apply([manifest], pick, true, reader, ctx)
    console.log(readdirSync(target).join())
    chmodSync(target, 0o755); chmodSync(target + '/shut', 0o755)
    const hostile = backupOf(forge({ name: './shut', type: 'folder', mode: 0o555 }, { name: './shut/su', mode: 0o4755 }), ctx, { path: target })
    await restorer.apply([hostile.manifest], pick, true, hostile.reader, ctx).catch(e => console.log(e.remedy))
    console.log(readdirSync(target).join(), statSync(target + '/shut/file').size)`,
    to,
  )
  if (said === null) return
  const lines = said.trim().split('\n')
  assert.match(lines[0] ?? '', /only root can give files to their owners/)
  assert.deepEqual(lines.slice(1), [
    '555 555 file',
    'shut',
    'if you trust where it comes from, allow it with --allow setuid',
    'shut 0',
  ])
})

test('a manifest that names no place needs --to, and a name that is a path is no name', async t => {
  const ctx = contextOf(t)
  const { manifest } = backupOf(forge({ name: './a' }), ctx, { path: '/nowhere' })
  const nowhere = { ...manifest, source: { ...manifest.source, options: {} } }
  await assert.rejects(filesRestorer({}).plan([nowhere], pick, ctx), /does not say where it was/)
  const to = folder(t)
  writeFileSync(join(to, 'a file'), '')
  const below = filesRestorer({ to: join(to, 'a file/below') })
  await assert.rejects(below.plan([nowhere], pick, ctx), /a file is not a folder/)
  assert.match((await filesRestorer({ to }).plan([nowhere], pick, ctx)).target, /\/data$/)
  for (const name of ['files/../../etc.tar', 'files/...tar', 'files/a/b.tar']) {
    const [artifact] = manifest.artifacts
    assert.ok(artifact)
    const forged = { ...manifest, artifacts: [{ ...artifact, name }] }
    await assert.rejects(filesRestorer({ to }).plan([forged], pick, ctx), /holds no such files/, name)
  }
})
