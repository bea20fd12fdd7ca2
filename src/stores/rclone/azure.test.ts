// budget: 120 s
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { describe, type TestContext, test } from 'node:test'
import { blobsIn, containerSas } from '../../../test/services/azurite.ts'
import { ServiceUnavailable } from '../../../test/services/facts.ts'
import { type FreshContainer, freshContainer, fullerRclone, service } from '../../../test/services/index.ts'
import { testContext } from '../../../test/support/context.ts'
import { type Opened, storeContract } from '../../../test/support/store-contract.ts'
import { Failure } from '../../model/failure.ts'
import type { Bytes } from '../../model/step.ts'
import { RcloneOptions, rcloneStore } from './index.ts'

const unavailable = await service('azurite').then(
  facts => {
    // As rclone finds its way and trust at any customer of Azure.
    process.env.https_proxy = facts.proxy
    process.env.RCLONE_CA_CERT = facts.caFile
    return null
  },
  (error: Error) => {
    if (error instanceof ServiceUnavailable) return error.message
    throw error
  },
)
process.env.RCLONE_LOW_LEVEL_RETRIES = '2'

for (const [version, program] of [
  ['old rclone', 'rclone'],
  ['new rclone', fullerRclone],
] as const) {
  const why = unavailable ?? (program === 'rclone' || existsSync(program) ? null : `no ${program}`)
  const skip = why === null ? {} : { skip: why }
  describe(version, { concurrency: 6 }, () => {
    storeContract('Azure', async t => opened(t, await freshContainer(), program), skip)

    // Without c and w there is nothing to test; who may delete, but not look, must not lose what was just written.
    for (const rights of ['cw', 'cwd'])
      test(
        `a signature that allows only "${rights}" writes, below a folder of its container too`,
        skip,
        async t => {
          const place = await freshContainer()
          const store = bySignature(t, place, program, rights, 'far/below')
          const ctx = testContext()
          await store.probe(ctx)
          assert.match(JSON.stringify(ctx.events), /store remote cannot be read/)
          await store.put('.cairn/begin', Buffer.from('begin'), {}, testContext())
          assert.equal((await store.put('a/large ü', slice(9), {}, testContext())).bytes, 9 * 2 ** 20)
          assert.equal(store.can.hidesPartial, true)
          assert.deepEqual(await blobsIn(place, place.container), [
            'far/below/.cairn/begin',
            'far/below/a/large ü',
          ])
          const reader = await opened(t, place, program, 'far/below')
          const got = await Array.fromAsync(reader.store.get('a/large ü', {}, testContext()))
          assert.deepEqual(Buffer.concat(got), Buffer.concat(await Array.fromAsync(slice(9))))
        },
      )

    test('a signature that does not allow to write, or is not of this account, is told so', skip, async t => {
      const place = await freshContainer()
      const another = { ...place, key: Buffer.alloc(32).toString('base64') }
      // Before 1.61, rclone hangs when several of the parts of a stream are refused.
      const stream = slice(program === 'rclone' ? 2 : 9)
      for (const [who, rights, body, why, remedy] of [
        [place, 'r', Buffer.from('small'), permission, /the right to do this/],
        [place, 'r', stream, permission, /the right to do this/],
        [another, 'rcw', Buffer.from('small'), /^\S+ \S+: 403 .* \(AuthorizationFailure\)$/, /check .*key/],
      ] as const) {
        const store = bySignature(t, who, program, rights, 'x')
        await assert.rejects(store.put('a', body, {}, testContext()), (error: Failure) => {
          assert(error instanceof Failure, String(error))
          assert.match(error.why, why)
          assert.match(error.remedy, remedy)
          return true
        })
      }
      await assert.rejects(
        bySignature(t, another, program, 'rcw', 'x').probe(testContext()),
        /cannot use store/,
      )
      assert.deepEqual(await blobsIn(place, place.container), [])
    })
  })
}

const permission = /^PUT \S+: 403 .* \(AuthorizationPermissionMismatch\)$/

/** By the account's key; everything is below `folder`. */
async function opened(
  t: TestContext,
  place: FreshContainer,
  program: string,
  folder = 'below/it',
): Promise<Opened> {
  const { account, key, container } = place
  const options = { type: 'azureblob', account, key }
  const remote = `store:${container}/${folder}`
  const store = rcloneStore('remote', RcloneOptions.parse({ config: '/dev/null', program, remote, options }))
  t.after(() => store.close())
  await store.probe(testContext())
  const leftovers = async () =>
    (await blobsIn(place, place.container)).filter(name => !name.startsWith(`${folder}/`))
  return { store, leftovers }
}

/** By a shared access signature of the container. */
function bySignature(
  t: TestContext,
  place: FreshContainer,
  program: string,
  rights: string,
  folder: string,
): ReturnType<typeof rcloneStore> {
  const { url, container } = place
  const sas_url = `${url}/${container}?${containerSas(place, container, rights)}`
  const options = { type: 'azureblob', sas_url }
  const remote = `store:${container}/${folder}`
  const store = rcloneStore('remote', RcloneOptions.parse({ config: '/dev/null', program, remote, options }))
  t.after(() => store.close())
  return store
}

async function* slice(mebibytes: number): Bytes {
  for (let n = 0; n < mebibytes; n++) yield Buffer.alloc(1 << 20, n)
}
