import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { runAsNobody } from '../../test/support/nobody.ts'
import { folder, mounted } from '../../test/support/places.ts'
import { demandWritable, whyClosed, whyNotReplaced, whyNotWritten } from './writable.ts'

test('a read-only mount is found below, above and at what is missing; nothing is left behind', async t => {
  const below = folder(t)
  writeFileSync(join(below, 'file'), 'content')
  const dir = mounted(t, '--bind', '-o', 'ro', below)
  if (dir === null) return
  const why = `${dir} is mounted read-only`
  assert.equal(await whyClosed(dir), why)
  assert.equal(await whyClosed(join(dir, 'not/there')), why)
  assert.equal(await whyNotReplaced(join(dir, 'file')), why)
  assert.equal(await whyNotReplaced(join(dir, 'other')), why)
  assert.equal(await whyNotWritten(join(dir, 'file')), `${join(dir, 'file')} is mounted read-only`)
  for (const path of [below, join(below, 'not/there')]) assert.equal(await whyClosed(path), null)
  for (const name of ['file', 'other']) assert.equal(await whyNotReplaced(join(below, name)), null)
  assert.equal(await whyNotWritten(join(below, 'file')), null)
  assert.deepEqual(readdirSync(below), ['file'])
  const places = [dir, below, join(dir, 'x')].map(async target => ({ target, why: await whyClosed(target) }))
  const all = await Promise.all(places)
  assert.throws(() => demandWritable(all), {
    exit: 2,
    message: `cannot restore to ${dir}, ${join(dir, 'x')}: ${why}`,
    remedy: /:ro/,
  })
})

test('a file that is mounted by itself cannot be replaced, but written', async t => {
  const below = folder(t)
  writeFileSync(join(below, 'from'), 'content')
  const dir = mounted(t, '-t', 'tmpfs', 'tmpfs')
  if (dir === null) return
  const file = join(dir, 'a b\nc')
  writeFileSync(file, '')
  execFileSync('mount', ['--bind', join(below, 'from'), file])
  try {
    assert.match((await whyNotReplaced(file)) ?? '', /mounted by itself.*its folder must be mounted/s)
    assert.equal(await whyNotWritten(file), null)
    assert.equal(await whyNotReplaced(join(dir, 'other')), null)
  } finally {
    execFileSync('umount', [file])
  }
  assert.equal(await whyNotReplaced(file), null)
})

test('who may not write is told so', t => {
  const dir = folder(t)
  chmodSync(dir, 0o755)
  mkdirSync(join(dir, 'shut'))
  chmodSync(join(dir, 'shut'), 0o555)
  mkdirSync(join(dir, 'open'))
  chmodSync(join(dir, 'open'), 0o777)
  const code = `
    const { whyClosed } = await from('src/platform/writable.ts')
    for (const path of process.argv.slice(1)) console.log(await whyClosed(path))`
  const said = runAsNobody(t, code, join(dir, 'shut'), join(dir, 'open'))
  if (said !== null) assert.equal(said, `no permission to write ${join(dir, 'shut')}\nnull\n`)
})
