import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { freshFolder } from '../../test/services/index.ts'
import { makePath } from './make-path.ts'

test('folders are made down to the one that is wanted, and the first that was made is told', async () => {
  const folder = await freshFolder()
  assert.equal(await makePath(join(folder, 'a/b/c')), join(folder, 'a'))
  assert.equal(await makePath(join(folder, 'a/b/c')), undefined)
  assert.equal(await makePath(join(folder, 'a/b/d')), join(folder, 'a/b/d'))
  writeFileSync(join(folder, 'file'), '')
  await assert.rejects(makePath(join(folder, 'file')), { code: 'EEXIST' })
  await assert.rejects(makePath(join(folder, 'file/x/y')), { code: 'ENOTDIR' })
})

test('where the file system takes no folder that is said, and not tried for ever', {
  timeout: 10_000,
}, async t => {
  if (!existsSync('/proc/self')) return t.skip('there is no /proc')
  for (const path of ['/proc/cairn', '/proc/cairn/x/y'])
    await assert.rejects(makePath(path), { code: 'ENOENT' })
})
