import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { capture } from '../../../test/support/capture.ts'
import { contextOf, folder, smallDisk } from '../../../test/support/places.ts'
import { describeTree, pick, sourceOf } from '../../../test/support/trees.ts'
import { mountsBelow } from '../../platform/mounts.ts'
import { filesRestorer } from './restorer.ts'

/** A target in which folders and files are mounted, deep ones too, with something in each. */
function mountsWithin(t: TestContext): { target: string; mounts: string[] } | null {
  const target = smallDisk(t, 16)
  if (!target) return null
  const mounts = ['top', 'a/deep', 'a/deep/deeper', 'a/b/odd name'].map(name => join(target, name))
  const files = ['conf', 'top/sealed'].map(name => join(target, name))
  for (const mount of mounts) {
    mkdirSync(mount, { recursive: true })
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', mount])
    for (const name of ['kept', 'changed', 'gone']) writeFileSync(join(mount, name), `${name} in ${mount}`)
    mkdirSync(join(mount, 'empty'), { mode: 0o750 })
    chmodSync(mount, 0o711)
  }
  for (const file of files) {
    const own = join(folder(t), 'own')
    writeFileSync(own, `content of ${file}`)
    writeFileSync(file, '')
    execFileSync('mount', ['--bind', own, file])
  }
  execFileSync('mount', ['-o', 'remount,ro,bind', files[1] ?? ''])
  writeFileSync(join(target, 'a/plain'), 'plain')
  chmodSync(join(target, 'a'), 0o2770)
  utimesSync(join(target, 'a'), 1e9, 1e9)
  return { target, mounts: [...mounts, ...files].sort() }
}

function withoutTimes(tree: ReturnType<typeof describeTree>): unknown {
  return Object.entries(tree).map(([name, facts]) => [name, { ...(facts as object), modified: null }])
}

test('what is mounted inside a target gets its part of the backup, and stays where it is', async t => {
  const place = mountsWithin(t)
  if (!place) return
  const { target, mounts } = place
  const ctx = contextOf(t)
  const { manifest, reader } = await capture(sourceOf(target), ctx)
  const before = describeTree(target)
  for (const mount of mounts.filter(each => !/conf|sealed/.test(each))) {
    writeFileSync(join(mount, 'changed'), 'something else')
    rmSync(join(mount, 'gone'))
    writeFileSync(join(mount, 'new'), 'new')
    rmSync(join(mount, 'empty'), { recursive: true })
    chmodSync(mount, 0o755)
  }
  writeFileSync(join(target, 'conf'), 'other')
  rmSync(join(target, 'a/plain'))
  chmodSync(join(target, 'a'), 0o755)
  const restorer = filesRestorer({})
  const { warnings } = await restorer.plan([manifest], pick, ctx)
  assert.ok(warnings.some(text => text.startsWith(`${join(target, 'a/deep')} is mounted by itself`)))
  const report = await restorer.apply([manifest], pick, true, reader, ctx)
  assert.equal(report.rows, Object.keys(before).length)
  const told = await mountsBelow(target)
  assert.deepEqual(
    told.map(name => join(target, name)),
    mounts.filter(each => !/deeper|sealed/.test(each)),
  )
  for (const mount of mounts) {
    if (!existsSync(join(mount, 'new'))) continue
    assert.equal(readFileSync(join(mount, 'new'), 'utf8'), 'new')
    rmSync(join(mount, 'new'))
  }
  const after = describeTree(target)
  assert.deepEqual(after['./a'], before['./a'])
  assert.deepEqual(withoutTimes(after), withoutTimes(before))
})

test('a failure amid what is mounted inside takes everything back, a mounted file too', async t => {
  const place = mountsWithin(t)
  if (!place) return
  const { target } = place
  const ctx = contextOf(t)
  // The last to be moved cannot be: it is mounted for reading only, and holds something else now.
  const { manifest, reader } = await capture(sourceOf(target), ctx)
  const sealed = join(target, 'top/sealed')
  execFileSync('mount', ['-o', 'remount,rw,bind', sealed])
  writeFileSync(sealed, 'something else')
  execFileSync('mount', ['-o', 'remount,ro,bind', sealed])
  for (const name of ['conf', 'top/changed', 'a/deep/changed'])
    writeFileSync(join(target, name), 'changed since')
  const before = describeTree(target)
  await assert.rejects(
    filesRestorer({}).apply([manifest], pick, true, reader, ctx),
    /cannot replace .*top\/sealed: something is mounted there/,
  )
  assert.deepEqual(withoutTimes(describeTree(target)), withoutTimes(before))
})
