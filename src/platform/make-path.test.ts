import assert from 'node:assert/strict'
import { existsSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { freshFolder } from '../../test/services/index.ts'
import { makePath, makePathSync } from './make-path.ts'
import { openState } from './state.ts'

test('folders are made down to the one that is wanted, and the first that was made is told', async () => {
  const folder = await freshFolder()
  assert.equal(await makePath(join(folder, 'a/b/c')), join(folder, 'a'))
  assert.equal(await makePath(join(folder, 'a/b/c')), undefined)
  assert.equal(await makePath(join(folder, 'a/b/d')), join(folder, 'a/b/d'))
  writeFileSync(join(folder, 'file'), '')
  await assert.rejects(makePath(join(folder, 'file')), { code: 'EEXIST' })
  await assert.rejects(makePath(join(folder, 'file/x/y')), { code: 'ENOTDIR' })
})

test('our own folders are made in the same way, for us alone', async () => {
  const folder = await freshFolder()
  for (let n = 0; n < 2; n++) makePathSync(join(folder, 'a/b'))
  for (const path of ['a', 'a/b']) assert.equal(statSync(join(folder, path)).mode & 0o777, 0o700)
  writeFileSync(join(folder, 'file'), '')
  assert.throws(() => makePathSync(join(folder, 'file')), { code: 'EEXIST' })
  assert.throws(() => makePathSync(join(folder, 'file/x/y')), { code: 'ENOTDIR' })
})

test('a state folder below a file system that takes none is refused', { timeout: 10_000 }, t => {
  if (!existsSync('/proc/self')) return t.skip('there is no /proc')
  for (const path of ['/proc/cairn', '/proc/cairn/x'])
    assert.throws(() => openState({ CAIRN_STATE: path }), /cannot use the state folder/)
})

test('where the file system takes no folder that is said, and not tried for ever', {
  timeout: 10_000,
}, async t => {
  if (!existsSync('/proc/self')) return t.skip('there is no /proc')
  for (const path of ['/proc/cairn', '/proc/cairn/x/y'])
    await assert.rejects(makePath(path), { code: 'ENOENT' })
})
