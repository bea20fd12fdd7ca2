import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'
import { folder } from '../../test/support/places.ts'

/** `below` was mounted before what it lies in now, as /run is by an initramfs. */
const moved = `
  mkdir "$DIR/first" "$DIR/second" "$DIR/bound"
  mount -t tmpfs tmpfs "$DIR/first" && mount -t tmpfs tmpfs "$DIR/second"
  mkdir "$DIR/second/below" && mount --move "$DIR/first" "$DIR/second/below"
  mkdir "$DIR/second/below/store" && mount --bind "$DIR/second/below" "$DIR/bound"
  exec "$NODE" --input-type=module --eval "$CODE"
`

test('a folder is known by all its paths where the mount that shows it was made before the one it lies in', t => {
  if (process.getuid?.() !== 0) return t.skip('only root can mount')
  const dir = folder(t)
  const store = join(dir, 'second/below/store')
  const code = `
    import { pathsOf } from ${JSON.stringify(join(import.meta.dirname, 'mounts.ts'))}
    console.log(JSON.stringify(await pathsOf(${JSON.stringify(store)})))`
  const env = { ...process.env, DIR: dir, NODE: process.execPath, CODE: code }
  const text = execFileSync('unshare', ['--mount', '--propagation', 'private', 'sh', '-ec', moved], { env })
  assert.deepEqual(JSON.parse(String(text)).sort(), [join(dir, 'bound/store'), store].sort())
})
