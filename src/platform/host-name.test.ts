import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { hostName } from './host-name.ts'
import { openState } from './state.ts'

function freshFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'cairn-name-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return folder
}

test('a machine that was cloned with its state folder gets a name of its own, and both keep theirs', t => {
  const folder = freshFolder(t)
  const [here, there] = [join(folder, 'here'), join(folder, 'there')]
  const first = openState({ CAIRN_STATE: here }, { id: 'a' })
  assert.equal(first.note, null)
  assert.ok(first.host.startsWith(`${hostname()}/`))
  cpSync(here, there, { recursive: true })
  const clone = openState({ CAIRN_STATE: there }, { id: 'b' })
  assert.notEqual(clone.host, first.host)
  assert.match(clone.note ?? '', /another machine/)
  for (const [state, id, host] of [
    [here, 'a', first.host],
    [there, 'b', clone.host],
    // The folder went back, or both share it.
    [there, 'a', first.host],
    [there, 'b', clone.host],
  ] as const) {
    const again = openState({ CAIRN_STATE: state }, { id })
    assert.equal(again.host, host)
    assert.equal(again.note, null)
  }
})

test('a container, which has nothing that outlives it, keeps the name in its volume', t => {
  const file = join(freshFolder(t), 'host-id')
  const { name } = hostName(file, {})
  const before = readFileSync(file, 'utf8')
  assert.deepEqual(hostName(file, {}), { name, isNew: false })
  assert.equal(readFileSync(file, 'utf8'), before)
})

test('a clone whose machine-id was left as it was is told by what only root may read', t => {
  const file = join(freshFolder(t), 'host-id')
  const { name } = hostName(file, { id: 'a' })
  assert.equal(hostName(file, { id: 'a', board: '1' }).name, name)
  assert.equal(hostName(file, { id: 'a' }).name, name)
  const clone = hostName(file, { id: 'a', board: '2' })
  assert.notEqual(clone.name, name)
  assert.equal(hostName(file, { id: 'a', board: '1' }).name, name)
})

test('a name from before machines were told apart stays that of the machine that finds it', t => {
  const file = join(freshFolder(t), 'host-id')
  writeFileSync(file, 'backup/12345678\n')
  assert.deepEqual(hostName(file, { id: 'a' }), { name: 'backup/12345678', isNew: false })
  assert.notEqual(hostName(file, { id: 'b' }).name, 'backup/12345678')
})

test('processes that begin together have one name, and a file that cannot be read is not replaced', async t => {
  const file = join(freshFolder(t), 'host-id')
  const code = `import { hostName } from ${JSON.stringify(import.meta.resolve('./host-name.ts'))}
    process.stdin.once('data', () => process.stdout.write(hostName(${JSON.stringify(file)}, {}).name))
    process.stdout.write('ready ')`
  const names = Array.from({ length: 4 }, async () => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: 'pipe' })
    let said = ''
    child.stdout.on('data', chunk => {
      said += chunk
    })
    await once(child.stdout, 'data')
    return {
      async go() {
        child.stdin.end('go')
        await once(child, 'close')
        return said
      },
    }
  })
  const ready = await Promise.all(names)
  const all = await Promise.all(ready.map(each => each.go()))
  assert.deepEqual(new Set(all), new Set([`ready ${hostName(file, {}).name}`]))
  rmSync(file)
  mkdirSync(file)
  assert.throws(() => hostName(file, {}), /EISDIR/)
})

test('a file that cannot be written anew, as on a full disk, takes no name away', t => {
  // There is no room for the longer name of what is to replace it.
  const file = join(freshFolder(t), 'h'.repeat(240))
  writeFileSync(file, 'backup/12345678\n')
  assert.equal(hostName(file, { id: 'a' }).name, 'backup/12345678')
  assert.throws(() => hostName(join(freshFolder(t), 'n'.repeat(240)), { id: 'a' }), /ENAMETOOLONG/)
})
