import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { testContext } from '../../../test/support/context.ts'
import { chooseClients, clientVersion, majorOf } from './clients.ts'

function folderWith(t: TestContext, majors: readonly string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'clients-'))
  t.after(() => rmSync(folder, { recursive: true }))
  for (const major of majors) {
    mkdirSync(join(folder, major, 'bin'), { recursive: true })
    const path = join(folder, major, 'bin/pg_dump')
    writeFileSync(path, `#!/bin/sh\necho "pg_dump (PostgreSQL) ${major}.7 (Debian x)"\n`)
    chmodSync(path, 0o755)
  }
  return folder
}

test('the version of a server tells its major', () => {
  assert.deepEqual([150_018, 100_001, 90_624, 90_224].map(majorOf), [15, 10, 9.6, 9.2])
})

test("the client programs are those of the server's major, else of the next newer one", async t => {
  const folder = folderWith(t, ['9.6', '13', '15', '17'])
  const majors: Record<number, number> = { 9.2: 9.6, 9.6: 9.6, 10: 13, 13: 13, 14: 15, 16: 17 }
  for (const [server, client] of Object.entries(majors)) {
    const chosen = await chooseClients(Number(server), 'back up', folder, testContext())
    assert.equal(chosen.major, client)
    assert.equal(chosen.path('psql'), join(folder, String(client), 'bin/psql'))
  }
  const { path } = await chooseClients(15, 'back up', folder, testContext())
  assert.equal(await clientVersion(path('pg_dump'), testContext()), 'pg_dump 15.7')
})

test('without a program that is new enough, the failure lists what is there and what to install', async t => {
  const folder = folderWith(t, ['13', '15'])
  await assert.rejects(chooseClients(18, 'back up x', folder, testContext()), {
    exit: 2,
    message: /cannot back up x: .*PostgreSQL 18 or newer, and there are only those of 13, 15/,
    remedy: /postgresql-client-18/,
  })
  await assert.rejects(chooseClients(18, 'back up x', join(folder, 'none'), testContext()), /there are none/)
})
