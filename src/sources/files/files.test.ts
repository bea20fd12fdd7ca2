import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { capture } from '../../../test/support/capture.ts'
import { runAsNobody } from '../../../test/support/nobody.ts'
import { contextOf, folder, mounted } from '../../../test/support/places.ts'
import { sourceContract } from '../../../test/support/source-contract.ts'
import { describeTree, hostileTree, oddNames, pick, sourceOf } from '../../../test/support/trees.ts'
import { Failure } from '../../model/failure.ts'
import { flow } from '../../platform/flow.ts'
import { FilesOptions, filesSource } from './index.ts'
import { filesRestorer } from './restorer.ts'
import { noteOf, unquote } from './tar.ts'

sourceContract('files', async t => {
  const tree = hostileTree(t)
  const target = join(folder(t), 'not yet', 'there')
  return {
    source: sourceOf(tree),
    restorer: filesRestorer({ to: target }),
    state: async () => describeTree(tree),
    compare: async () => assert.deepEqual(describeTree(join(target, 'tree')), describeTree(tree)),
  }
})

test('a sparse file is small in the backup and sparse again where it is restored', async t => {
  const tree = hostileTree(t)
  const ctx = contextOf(t)
  const { manifest, bytes, reader } = await capture(sourceOf(tree), ctx)
  assert.ok((bytes.get('files/tree.tar')?.length ?? 0) < 1_000_000)
  const to = folder(t)
  await filesRestorer({ to }).apply([manifest], pick, false, reader, ctx)
  const { size, blocks } = statSync(join(to, 'tree', 'sparse'))
  assert.equal(size, 1024 ** 3)
  assert.ok(blocks * 512 < 1_000_000, `${blocks} blocks`)
})

test('extended attributes and ACLs come back', async t => {
  const tree = join(folder(t), 'tree')
  mkdirSync(tree)
  writeFileSync(join(tree, 'a'), 'a')
  const set = "import os,sys; os.setxattr(sys.argv[1], 'user.colour', b'red\\x00\\xff')"
  try {
    execFileSync('python3', ['-c', set, join(tree, 'a')], { stdio: 'ignore' })
  } catch {
    return t.skip('python3, or a file system with extended attributes, is not there')
  }
  const ctx = contextOf(t)
  const { manifest, reader } = await capture(sourceOf(tree), ctx)
  rmSync(join(tree, 'a'))
  await filesRestorer({}).apply([manifest], pick, false, reader, ctx)
  const get = "import os,sys; print(os.getxattr(sys.argv[1], 'user.colour'))"
  assert.match(execFileSync('python3', ['-c', get, join(tree, 'a')]).toString(), /red\\x00\\xff/)
})

test('the census counts what the restore brings', async t => {
  const tree = hostileTree(t)
  const ctx = contextOf(t)
  const { manifest, census, reader } = await capture(
    sourceOf(tree, { path: '/etc/passwd', name: 'users' }),
    ctx,
  )
  const report = await filesRestorer({ to: folder(t) }).apply([manifest], pick, false, reader, ctx)
  assert.equal(census.at, 'near')
  assert.equal(
    report.rows,
    census.objects.reduce((sum, object) => sum + (object.rows ?? 0), 0),
  )
  assert.deepEqual(
    census.objects.map(object => object.name),
    ['tree', 'users'],
  )
})

test('single files of every name are backed up and come back under their paths', async t => {
  const dir = folder(t)
  for (const name of oddNames.map(String)) {
    if (name.includes('\ufffd')) continue
    const path = join(dir, name)
    writeFileSync(path, name)
    const ctx = contextOf(t)
    const { manifest, reader } = await capture(sourceOf({ path, name: 'it' }), ctx)
    rmSync(path)
    await filesRestorer({}).apply([manifest], pick, false, reader, ctx)
    assert.deepEqual(readdirSync(dir), [name])
    rmSync(path)
  }
  assert.ok(!existsSync('PWNED'))
})

test('a path that is a link is followed, a link inside a folder is not', async t => {
  const dir = folder(t)
  mkdirSync(join(dir, 'real'))
  writeFileSync(join(dir, 'real', 'a'), 'content')
  symlinkSync('a', join(dir, 'real', 'link'))
  symlinkSync('real', join(dir, 'folder'))
  symlinkSync('real/a', join(dir, 'file'))
  const ctx = contextOf(t)
  const paths = [join(dir, 'folder'), join(dir, 'file')]
  for (const withName of [false, true]) {
    const source = filesSource(FilesOptions.parse({ paths, withName }))
    const { manifest, reader } = await capture(source, ctx)
    const to = folder(t)
    await filesRestorer({ to }).apply([manifest], pick, false, reader, ctx)
    const {
      './file': file,
      './folder/a': inner,
      './folder/link': link,
    } = describeTree(to) as Record<string, { content?: string; to?: string }>
    assert.equal(file?.content, Buffer.from('content').toString('hex'))
    assert.equal(inner?.content, file?.content)
    assert.equal(link?.to, 'a')
  }
})

test('files that change, shrink or vanish while they are read are in the warnings, by their true names', async t => {
  const dir = join(folder(t), 'busy')
  mkdirSync(dir)
  const large = 'x'.repeat(30_000_000)
  // tar reads in the order of the folder: the first chunk stops it in the first of them.
  const names = ['grows: a\nb', 'shrinks é', "vanishes '\\'"]
  for (const name of names) writeFileSync(join(dir, name), large)
  const ctx = contextOf(t)
  await using session = await sourceOf(dir).open({ name: 'files' }, null, 'counts', ctx)
  for await (const artifact of session.artifacts()) {
    let disturbed = false
    for await (const _ of flow(artifact.open(ctx), [], ctx)) {
      if (disturbed) continue
      disturbed = true
      appendFileSync(join(dir, names[0] ?? ''), 'more')
      truncateSync(join(dir, names[1] ?? ''), 100)
      rmSync(join(dir, names[2] ?? ''))
    }
  }
  const { warnings } = await session.finish()
  const told = new Map(warnings.map(warning => [warning.path, warning.what]))
  t.diagnostic(JSON.stringify([...told.values()]))
  // Whichever tar was reading at that moment is seen as changed; those it had not reached are merely different.
  assert.ok(warnings.length > 0)
  for (const path of told.keys())
    assert.ok([dir, ...names.map(name => join(dir, name))].includes(path ?? ''), path)
})

test('every way in which tar says that a file is not what it was is understood', () => {
  const lines: [string, string, string][] = [
    ['tar: ./a\\\\b\\nc\\: d: file changed as we read it', './a\\b\nc: d', 'file changed as we read it'],
    ['/usr/bin/tar: ./\\303\\251: File removed before we read it', './é', 'File removed before we read it'],
    [
      'tar: ./x: File shrank by 199 bytes; padding with zeros',
      './x',
      'File shrank by 199 bytes; padding with zeros',
    ],
    ['tar: ./s: socket ignored', './s', 'socket ignored'],
  ]
  for (const [line, path, text] of lines) assert.deepEqual(noteOf(line), { path, text })
  assert.equal(noteOf('tar: Exiting with failure status due to previous errors'), null)
  assert.deepEqual(noteOf('tar: ./a: Cannot open: Permission denied'), {
    path: null,
    text: './a: Cannot open: Permission denied',
  })
  assert.equal(unquote('i\\377\\376'), 'i\\377\\376', 'what is not UTF-8 stays quoted')
})

test('a socket is left out, with a warning', async t => {
  const dir = folder(t)
  const server = createServer().listen(join(dir, 'socket'))
  t.after(() => server.close())
  const { facts } = await capture(sourceOf(dir), contextOf(t))
  assert.deepEqual(facts.warnings, [{ what: 'socket ignored', path: join(dir, 'socket') }])
})

test('a thousand warnings are enough', async t => {
  const dir = folder(t)
  const make =
    'import socket,sys,os\nos.chdir(sys.argv[1])\nfor n in range(1200): socket.socket(socket.AF_UNIX).bind(str(n))'
  try {
    execFileSync('python3', ['-c', make, dir])
  } catch {
    return t.skip('python3 is not there')
  }
  const { facts } = await capture(sourceOf(dir), contextOf(t))
  assert.equal(facts.warnings.length, 1001)
  assert.match(facts.warnings.at(-1)?.what ?? '', /and 200 more/)
})

test('a file or folder that cannot be read makes the backup fail, and is named', async t => {
  const dir = folder(t)
  chmodSync(dir, 0o755)
  for (const name of ['open', 'secret']) writeFileSync(join(dir, name), 'x')
  chmodSync(join(dir, 'secret'), 0)
  const said = runAsNobody(
    t,
    `const { capture } = await from('test/support/capture.ts')
    const { testContext } = await from('test/support/context.ts')
    const { filesSource, FilesOptions } = await from('src/sources/files/index.ts')
    const [dir] = process.argv.slice(1)
    await capture(filesSource(FilesOptions.parse({ paths: [dir] })), testContext()).catch(e => console.log(e.message, e.remedy))`,
    dir,
  )
  if (said === null) return
  assert.match(
    said,
    /cannot back up .*: \.\/secret: Cannot open: Permission denied run as a user who may read it/,
  )
})

test('paths that cannot be backed up are refused before anything is read', async t => {
  const dir = folder(t)
  mkdirSync(join(dir, 'a', 'same'), { recursive: true })
  mkdirSync(join(dir, 'b', 'same'), { recursive: true })
  execFileSync('mkfifo', [join(dir, 'fifo')])
  const cases: [string[], RegExp][] = [
    [[join(dir, 'absent')], /does not exist/],
    [[join(dir, 'fifo')], /neither a folder nor a regular file/],
    [[join(dir, 'a', 'same'), join(dir, 'b', 'same')], /both are named same/],
  ]
  for (const [paths, why] of cases) {
    await assert.rejects(sourceOf(...paths).inspect(contextOf(t)), error => {
      return error instanceof Failure && error.exit === 2 && why.test(error.message)
    })
  }
  const twins = sourceOf(join(dir, 'a', 'same'), { path: join(dir, 'b', 'same'), name: 'other' })
  assert.match((await twins.inspect(contextOf(t))).identity, /^files:.*a\/same:.*b\/same$/)
})

test('patterns and absolute paths are left out', async t => {
  const dir = join(folder(t), 'tree')
  for (const path of ['a/cache/x', 'cache/y', 'keep.txt', 'drop.log', 'sub/drop.log', '-x']) {
    mkdirSync(join(dir, path, '..'), { recursive: true })
    writeFileSync(join(dir, path), 'x')
  }
  const ctx = contextOf(t)
  const source = filesSource(
    FilesOptions.parse({ paths: [dir], exclude: ['*.log', join(dir, 'cache'), '-x'] }),
  )
  const { manifest, reader } = await capture(source, ctx)
  const to = folder(t)
  await filesRestorer({ to }).apply([manifest], pick, false, reader, ctx)
  assert.deepEqual(Object.keys(describeTree(join(to, 'tree'))), [
    '.',
    './a',
    './a/cache',
    './a/cache/x',
    './keep.txt',
    './sub',
  ])
})

test('what is mounted inside is left out when that is wanted', async t => {
  const dir = join(folder(t), 'tree')
  mkdirSync(dir)
  writeFileSync(join(dir, 'own'), 'x')
  const other = mounted(t, '-t', 'tmpfs', 'tmpfs')
  if (!other) return
  writeFileSync(join(other, 'theirs'), 'x')
  const rows: (number | null | undefined)[] = []
  for (const oneFileSystem of [true, false]) {
    const nested = join(dir, 'inner')
    mkdirSync(nested, { recursive: true })
    execFileSync('mount', ['--bind', other, nested])
    try {
      const { census } = await capture(
        filesSource(FilesOptions.parse({ paths: [dir], oneFileSystem })),
        contextOf(t),
      )
      rows.push(census.objects[0]?.rows)
    } finally {
      execFileSync('umount', [nested])
    }
  }
  assert.deepEqual(rows, [3, 4])
})

test('names in options are names', () => {
  for (const name of ['a/b', '..', '.', '', 'a\0b']) {
    assert.throws(() => FilesOptions.parse({ paths: [{ path: '/a', name }] }), name)
  }
  assert.throws(() => FilesOptions.parse({ paths: ['relative'] }))
  assert.throws(() => FilesOptions.parse({ paths: [] }))
})
