import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { testContext } from '../../../test/support/context.ts'
import { S3Options, s3Store } from './index.ts'

test('AWS_CA_BUNDLE names authorities to trust, where caFile does not', async t => {
  const ctx = testContext()
  const file = (name: string): string => join(ctx.dir, name)
  const what = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-days', '2']
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', file('key')]
  execFileSync('openssl', ['req', '-x509', ...key, '-out', file('ca'), ...what], { stdio: 'ignore' })
  const pair = { key: readFileSync(file('key')), cert: readFileSync(file('ca')) }
  const server = createServer(pair, (_, response) => response.end('hello'))
  await new Promise<void>(done => server.listen(0, 'localhost', done))
  t.after(() => server.close())
  const endpoint = `https://localhost:${(server.address() as AddressInfo).port}`
  const read = async (caFile?: string): Promise<string> => {
    const keys = { accessKeyId: { value: 'a' }, secretAccessKey: { value: 'b' } }
    const store = s3Store('x', S3Options.parse({ bucket: 'b', endpoint, ...keys, ...(caFile && { caFile }) }))
    try {
      let text = ''
      for await (const chunk of store.get('k', {}, ctx)) text += Buffer.from(chunk).toString()
      return text
    } finally {
      await store.close?.()
    }
  }
  t.after(() => {
    delete process.env.AWS_CA_BUNDLE
  })
  await assert.rejects(read(), /is not trusted/)
  process.env.AWS_CA_BUNDLE = file('ca')
  assert.equal(await read(), 'hello')
  process.env.AWS_CA_BUNDLE = file('missing')
  await assert.rejects(read(), /cannot read AWS_CA_BUNDLE .*missing/)
  assert.equal(await read(file('ca')), 'hello')
})
