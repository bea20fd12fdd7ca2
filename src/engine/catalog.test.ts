import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testContext } from '../../test/support/context.ts'
import { testJob, wholeBackup } from '../../test/support/job.ts'
import { syntheticSource } from '../../test/support/synthetic-source.ts'
import { exitCode } from '../model/failure.ts'
import { memoryStore } from '../stores/memory.ts'
import { backup } from './backup.ts'
import { readCatalog, resolve } from './catalog.ts'

test('a backup from the future is the latest only where there is no other, and is refused by that name elsewhere', async () => {
  const store = memoryStore('one')
  const source = syntheticSource({ artifacts: [{ name: 'a', bytes: 10 }] })
  const made = async (hours: number): Promise<string> => {
    const ctx = testContext({ clock: { now: () => new Date(Date.now() + hours * 3_600_000) } })
    return wholeBackup(await backup(testJob(source, [store]), 'here', ctx)).id
  }
  const catalog = () => readCatalog([store], null, testContext())
  const ahead = await made(36)
  assert.equal(resolve(await catalog(), 'latest').id, ahead)
  const good = await made(0)
  const { entries } = await catalog()
  for (const handle of ['latest', 'shop@latest', 'shop/unit@latest'])
    assert.throws(
      () => resolve({ entries, silent: [] }, handle),
      ({ exit, why, remedy }) => exit === exitCode.usage && why.includes(ahead) && remedy.includes(good),
    )
})

test('where no backup has the name, what was probably meant is said', async () => {
  const store = memoryStore('one')
  const source = syntheticSource({ artifacts: [{ name: 'a', bytes: 10 }] })
  await backup(testJob(source, [store]), 'here', testContext())
  const catalog = await readCatalog([store], null, testContext())
  const meant = {
    shop: 'shop',
    'shop/unit': 'shop/unit',
    'shpo@latest': 'shop',
    'shop/unti@latest': 'shop/unit',
  }
  for (const [handle, name] of Object.entries(meant))
    assert.throws(() => resolve(catalog, handle), {
      exit: exitCode.noSuchBackup,
      remedy: `did you mean ${name}@latest? cairn list shows what there is`,
    })
  for (const handle of ['wiki@latest', '20200101T000000Z-aaaaaaaa', ''])
    assert.throws(() => resolve(catalog, handle), { remedy: 'cairn list shows what there is' })
})
