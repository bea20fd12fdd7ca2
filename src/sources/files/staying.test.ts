import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { contextOf, folder, isRoot, smallDisk } from '../../../test/support/places.ts'
import { backupOf, type Forged, forge, pick } from '../../../test/support/trees.ts'
import type { ArtifactReader } from '../../model/restore.ts'
import { entriesOf } from './entries.ts'
import { goalsOf } from './goal.ts'
import { filesRestorer } from './restorer.ts'

// What must stay where it is while its surroundings are replaced.

/** A target with an empty file system mounted at each of these paths inside. */
function targetWith(t: TestContext, ...mounts: string[]): string | null {
  const target = smallDisk(t, 16)
  if (target) for (const inner of mounts) mountAt(join(target, inner))
  return target
}

function mountAt(path: string): void {
  mkdirSync(path, { recursive: true })
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', path])
}

test('a folder in which something is mounted is not moved away with it', async t => {
  const target = targetWith(t, 'a/deep')
  if (!target) return
  writeFileSync(join(target, 'a/deep/own'), 'own')
  mkdirSync(join(target, 'b'))
  const ctx = contextOf(t)
  const restorer = filesRestorer({})
  const others: Forged[] = [
    { name: './a', content: 'a file' },
    { name: './a', type: 'symlink', to: '/nowhere' },
  ]
  for (const other of others) {
    const { manifest, reader } = backupOf(forge(other), ctx, { path: target })
    await assert.rejects(restorer.apply([manifest], pick, true, reader, ctx), /a: something is mounted in it/)
  }
  const { manifest, reader } = backupOf(forge({ name: './b', type: 'folder' }), ctx, { path: target })
  const meanwhile: ArtifactReader = {
    ...reader,
    into: async (...args) => {
      mountAt(join(target, 'b/late'))
      return await reader.into(...args)
    },
  }
  await assert.rejects(
    restorer.apply([manifest], pick, true, meanwhile, ctx),
    /b: something is mounted in it/,
  )
  assert.deepEqual(readdirSync(target), ['a', 'b'])
  assert.equal(readFileSync(join(target, 'a/deep/own'), 'utf8'), 'own')
})

test('a store is not replaced, whichever links lead to it or to the target', async t => {
  const real = folder(t)
  const link = join(folder(t), 'link')
  symlinkSync(real, link)
  mkdirSync(join(real, 'in/store'), { recursive: true })
  writeFileSync(join(real, 'in/store/backup'), 'backup')
  const ctx = contextOf(t)
  for (const [path, other] of [
    [link, real],
    [real, link],
  ] as const) {
    const { manifest, reader } = backupOf(forge({ name: './in', type: 'folder' }), ctx, { path })
    const restorer = filesRestorer({ protect: [join(other, 'in/store')] })
    await assert.rejects(restorer.apply([manifest], pick, true, reader, ctx), /where the store .* is/)
  }
  assert.equal(readFileSync(join(real, 'in/store/backup'), 'utf8'), 'backup')
})

test('places in the root folder are spelled as those of stores are', async t => {
  if (!isRoot) return t.skip('only root may write there')
  const tree = folder(t)
  mkdirSync(join(tree, 'srv'))
  const { manifest } = backupOf(forge({ name: './srv', type: 'folder' }), contextOf(t), { path: '/' })
  const [goal] = await goalsOf([manifest], pick, undefined)
  assert.ok(goal)
  const [entry] = await Array.fromAsync(entriesOf({ goal: { ...goal, mounts: [] }, tree }))
  assert.equal(entry?.to.toString(), '/srv')
})

test('what is mounted under a name that is not UTF-8 does not miss its part without a word', async t => {
  const target = targetWith(t)
  if (!target) return
  execFileSync('sh', ['-c', 'name=$(printf "\\377"); mkdir "$name"; mount -t tmpfs tmpfs "$name"'], {
    cwd: target,
  })
  const ctx = contextOf(t)
  const { manifest } = backupOf(forge({ name: './x', content: 'x' }), ctx, { path: target })
  await assert.rejects(filesRestorer({}).plan([manifest], pick, ctx), /under a name that is not UTF-8/)
})

test('what is left behind, full or read-only in something mounted inside is told as that', async t => {
  const target = targetWith(t, 'm', 'full')
  if (!target) return
  const ctx = contextOf(t)
  const restorer = filesRestorer({})
  writeFileSync(join(target, 'full/own'), 'own')
  writeFileSync(join(target, 'conf'), '')
  execFileSync('mount', ['--bind', join(target, 'full/own'), join(target, 'conf')])
  const large = backupOf(forge({ name: './conf', content: 'x'.repeat(3_000_000) }), ctx, { path: target })
  await assert.rejects(
    restorer.apply([large.manifest], pick, true, large.reader, ctx),
    /cannot replace .*conf: there is no space left/,
  )
  assert.equal(readFileSync(join(target, 'conf'), 'utf8'), 'own')
  const left = join(target, 'm/.cairn-replaced-12345678')
  mkdirSync(left)
  const inner = forge({ name: './m', type: 'folder' }, { name: './m/f', content: 'x' })
  const { manifest, reader } = backupOf(inner, ctx, { path: target })
  const { warnings } = await restorer.apply([manifest], pick, true, reader, ctx)
  assert.ok(warnings.some(text => text.startsWith(`${left} holds what an interrupted restore`)))
  execFileSync('mount', ['-o', 'remount,ro', join(target, 'm')])
  await assert.rejects(
    restorer.apply([manifest], pick, true, reader, ctx),
    /cannot restore to .*m: the file system is read-only/,
  )
})
