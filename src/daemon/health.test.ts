import assert from 'node:assert/strict'
import { test } from 'node:test'
import { serveHealth } from './health.ts'

test('a state that cannot be told is an answer of 500, and the next question is answered', async () => {
  let isBroken = true
  await using server = await serveHealth({ host: '127.0.0.1', port: 0 }, () => {
    if (isBroken) throw new Error('broken')
    return {}
  })
  const ask = async (): Promise<number> => (await fetch(`http://127.0.0.1:${server.port}/health`)).status
  assert.equal(await ask(), 500)
  isBroken = false
  assert.equal(await ask(), 200)
})
