import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { testContext } from '../../../test/support/context.ts'
import { stores } from '../index.ts'
import { S3Options } from './index.ts'

const refused = '<Error><Code>AccessDenied</Code><Message>no</Message></Error>'
const empty = '<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'

test('the time is the one that the server tells, told before where it refuses, and none where it tells none', async t => {
  let date: string | null = 'Sat, 03 Jan 2026 04:05:06 GMT'
  let isOpen = true
  const server = createServer((_, response) => {
    response.statusCode = isOpen ? 200 : 403
    response.sendDate = false
    if (date !== null) response.setHeader('date', date)
    response.setHeader('content-type', 'application/xml')
    response.end(isOpen ? empty : refused)
  })
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const keys = { accessKeyId: { value: 'a' }, secretAccessKey: { value: 'b' } }
  const store = stores.s3('there', S3Options.parse({ bucket: 'b', endpoint, ...keys }))
  t.after(async () => {
    await store.close?.()
    server.close()
  })
  const ctx = testContext()
  assert.deepEqual(await store.now?.(ctx), new Date('2026-01-03T04:05:06Z'))
  isOpen = false
  assert.deepEqual(await store.now?.(ctx), new Date('2026-01-03T04:05:06Z'))
  isOpen = true
  date = null
  assert.equal(await store.now?.(ctx), null)
})
