import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testContext } from '../../../test/support/context.ts'
import { collect, inChunks } from '../../../test/support/reader.ts'
import { ourTransaction } from './our-transaction.ts'

const start =
  '--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nBEGIN;\n\nSET statement_timeout = 0;\n'
const end = '\nCOMMIT;\n\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n'
const setting = 'SET transaction_timeout = 0;\n'

const through = async (script: string, size: number, major = 15): Promise<string> => {
  const bytes = inChunks(Buffer.from(script, 'latin1'), size)
  return Buffer.from(await collect(ourTransaction(major).run(bytes, testContext()))).toString('latin1')
}

test('the transaction is taken out of a script, and nothing else, however the chunks fall', async () => {
  const data = 'COPY t FROM stdin;\nCOMMIT;\nBEGIN;\n\xff\x00\n\\.\n'
  for (const body of [data, data.repeat(20), data.repeat(400)])
    for (const size of [1, 97, 2_048, 4_096, 100_000])
      assert.equal(
        await through(start + setting + body + end, size),
        start.replace('BEGIN;\n', '') + body + end.replace('COMMIT;\n\n', ''),
      )
})

test('a setting that the server knows stays', async () => {
  assert.ok((await through(start + setting + end, 100, 17)).includes(setting))
})

test('a script that is cut off anywhere never comes to its end', async () => {
  const whole = start + 'x\n'.repeat(3_000) + end
  for (let cut = 0; cut < whole.length - 40; cut += 37)
    await assert.rejects(through(whole.slice(0, cut), 1_000), /not whole|does not (begin|end)/, String(cut))
})
