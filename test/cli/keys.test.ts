import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { exitCode } from '../../src/model/failure.ts'
import { generateIdentity } from '../../src/stages/index.ts'
import { listed, type Machine, machine, randomFiles } from '../support/cli.ts'

/** A host that encrypts for one key, and reads with the given one. */
async function encrypting(identity: (host: Machine, own: string) => object): Promise<Machine> {
  const host = machine()
  const { recipient, identity: own } = await generateIdentity()
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    encryption: { age: { recipients: [recipient], ...identity(host, own.reveal()) } },
    jobs: {
      data: { source: { type: 'files', paths: [randomFiles(host.path('data'), 1000)] }, to: ['disk'] },
    },
  })
  return host
}

function keyFile(host: Machine, name: string, key: string): { identity: { file: string } } {
  writeFileSync(host.path(name), key, { mode: 0o600 })
  return { identity: { file: host.path(name) } }
}

test('doctor tries whether the key of this host opens what its jobs encrypt', async () => {
  const right = await encrypting((host, own) => keyFile(host, 'own', own))
  assert.match((await right.ok(['doctor'])).out, /ok {4}keys for data: .*\n.*All is well/s)
  const another = (await generateIdentity()).identity.reveal()
  const wrong = await encrypting(host => keyFile(host, 'another', another))
  const { out } = await wrong.ok(['doctor'])
  assert.match(out, /warn {2}keys for data: .* do not open .*\n {6}set identity/)
  assert.doesNotMatch(out, /All is well/)
  const writer = await encrypting(() => ({}))
  assert.match((await writer.ok(['doctor'])).out, /it can restore only what is not encrypted\n.*All is well/s)
})

test('verify with a wrong key names backup, artifact and store', async () => {
  const another = (await generateIdentity()).identity.reveal()
  const host = await encrypting(there => keyFile(there, 'another', another))
  await host.ok(['backup'])
  const [backup] = await listed(host)
  const ran = await host.run(['verify'])
  assert.equal(ran.code, exitCode.wrongKey)
  assert.ok(ran.stderr.includes(`cannot verify files/data.tar of ${backup?.id} in store disk: `), ran.stderr)
  // It has a census, too, which is told with it.
  assert.match(ran.stderr, /the configured identity \(and 1 more of it\)\n/)
  assert.equal(ran.stderr.match(/cannot verify/g)?.length, 1)
})

test('a key file that is not there hinders only what needs it', async () => {
  const host = await encrypting(() => ({ identity: { file: '/no/such/key' } }))
  await host.ok(['backup'])
  for (const args of [['show', 'latest'], ['verify']]) {
    const ran = await host.ok(args)
    assert.match(ran.stderr, /^cairn: warning: .*\/no\/such\/key: there is no such file/, args.join(' '))
    assert.notEqual(ran.out, '')
  }
  for (const args of [
    ['cat', 'latest', 'files/data.tar'],
    ['restore', 'latest', '--to', host.path('back')],
  ]) {
    const ran = await host.run(args)
    assert.equal(ran.code, exitCode.usage, args.join(' '))
    assert.match(ran.stderr, /error: .*\/no\/such\/key: there is no such file/)
  }
  assert.match((await host.run(['doctor'])).out, /FAIL {2}reading keys: .*\/no\/such\/key/)
})
