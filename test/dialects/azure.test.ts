// budget: 120 s
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { suite, type TestContext, test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { ask, blobsIn, containerSas } from '../services/azurite.ts'
import {
  type FreshContainer,
  freshContainer,
  freshDatabase,
  fullerRclone,
  goPrograms,
  orSkip,
} from '../services/index.ts'
import { childrenOf, machine, tryKill } from '../support/cli.ts'
import { eventually } from '../support/eventually.ts'
import { sql } from '../support/postgres/hostile.ts'
import { oldHost, roundTrip, sh, shop, shopDigest } from './support.ts'

/** The README's environment for Azure, and what leads from its names to the account of the tests. */
async function azure(t: TestContext): Promise<{ place: FreshContainer; env: Record<string, string> } | null> {
  const place = await orSkip(t, freshContainer())
  if (!place) return null
  const env = {
    RCLONE_CONFIG_STORE_TYPE: 'azureblob',
    UPLOAD_PREFIX: `${place.container}/db`,
    ...{ https_proxy: place.proxy, RCLONE_CA_CERT: place.caFile },
  }
  return { place, env }
}

function byKey({ account, key }: FreshContainer): Record<string, string> {
  return { RCLONE_CONFIG_STORE_ACCOUNT: account, RCLONE_CONFIG_STORE_KEY: key }
}

/** By a shared access signature: c create, w write, r read, l list. */
function bySignature(place: FreshContainer, rights: string): Record<string, string> {
  const sas = containerSas(place, place.container, rights)
  return { RCLONE_CONFIG_STORE_SAS_URL: `${place.url}/${place.container}?${sas}` }
}

suite('the README of the rclone images, with Azure', { concurrency: 4 }, () => {
  for (const [version, path] of [
    ['old', process.env.PATH ?? ''],
    ['new', `${goPrograms}:${process.env.PATH}`],
  ] as const) {
    const lacks = version === 'new' && !existsSync(fullerRclone)
    const skip = lacks ? { skip: `no ${fullerRclone}, which Go builds` } : {}

    test(`rclone (${version}): Azure, with the key of the account`, skip, async t => {
      const here = await shop(t)
      const there = await azure(t)
      if (!here || !there) return
      const host = oldHost({ ...here.env, ...there.env, ...byKey(there.place), PATH: path })
      await roundTrip(host, here.database)
    })

    test(
      `rclone (${version}): Azure, with a signature that only writes; who may read restores`,
      skip,
      async t => {
        const here = await shop(t)
        const there = await azure(t)
        if (!here || !there) return
        const { place } = there
        const env = { ...here.env, ...there.env, PATH: path, BACKUP_FILE_NAME: 'only/$DB' }
        const ran = await oldHost({ ...env, ...bySignature(place, 'cw') }).cairn(['run'])
        assert.equal(ran.code, 0, ran.stderr)
        assert.ok(!ran.stderr.includes('sig='), ran.stderr)
        const name = (await blobsIn(place, place.container)).find(key => key.startsWith('db/only/'))
        assert.ok(name?.endsWith('.sql.gz'), name)
        const dump = await ask(place, 'GET', `/${place.container}/${name}`)
        const [byHand, byCairn] = await Promise.all([freshDatabase(15), freshDatabase(15)])
        sh('gunzip | psql -XqAt -v ON_ERROR_STOP=1 -o /dev/null "$TO"', dump, { TO: byHand.url })
        const reader = oldHost({ ...env, ...bySignature(place, 'rl') })
        const restored = await reader.cairn(['restore', 'latest', '--to', byCairn.url])
        assert.equal(restored.code, 0, restored.stderr)
        for (const target of [byHand, byCairn])
          assert.equal(await shopDigest(target), await shopDigest(here.database))
      },
    )

    for (const victim of ['cairn', 'rclone'] as const)
      test(
        `rclone (${version}): ${victim} killed in the middle of an upload leaves no half object on Azure`,
        skip,
        async t => {
          const here = await shop(t)
          const there = await azure(t)
          if (!here || !there) return
          await sql(
            here.database,
            'CREATE TABLE noise AS SELECT n, md5(random()::text) AS hex FROM generate_series(1, 500000) n',
          )
          const { place } = there
          const env = { ...here.env, ...there.env, ...byKey(place), PATH: path }
          const host = machine()
          const blobs = async (unfinished = false): Promise<string[]> =>
            (await blobsIn(place, place.container, unfinished)).filter(isDump)
          // Ten blocks of it, in some seconds: between the first and the last there is time to strike. A strike that came
          // when all was there leaves a whole one; then it is done again, with more time.
          let whole: string[] = []
          let struck = false
          for (const limit of ['2M', '1M', '512k', '256k']) {
            const slowly = { RCLONE_BWLIMIT: limit, RCLONE_AZUREBLOB_CHUNK_SIZE: '1M' }
            const running = host.start(['run'], { env: { ...env, ...slowly } })
            await eventually('blocks of one more', async () => (await blobs(true)).length > whole.length)
            const rclone = childrenOf(running.pid).find(({ name }) => name === 'rclone')
            const pid = victim === 'cairn' ? running.pid : rclone?.pid
            const hit = pid !== undefined && tryKill(pid)
            const { code, signal, stderr } = await running.ended
            const now = await blobs()
            for (const name of now) await assertWhole(place, name)
            assert.equal((await host.run(['list', '--json'], { env })).json<unknown[]>().length, now.length)
            struck = hit && now.length === whole.length
            if (struck) assert.ok(victim === 'cairn' ? signal === 'SIGKILL' : code === 1, stderr)
            if (struck) break
            whole = now
          }
          assert.ok(struck, 'every strike came too late')
          assert.equal((await host.run(['run'], { env })).code, 0)
          const after = (await host.run(['list', '--json'], { env })).json<unknown[]>()
          assert.equal(after.length, whole.length + 1)
        },
      )
  }
})

/** That a dump can be unpacked and ends as dumps do. */
async function assertWhole(place: FreshContainer, name: string): Promise<void> {
  const dump = gunzipSync(await ask(place, 'GET', `/${place.container}/${name}`)).subarray(-1000)
  assert.match(dump.toString(), /database dump complete/, name)
}

function isDump(name: string): boolean {
  return name.endsWith('.sql.gz')
}
