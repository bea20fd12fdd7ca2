import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NotWhole } from '../../model/content.ts'
import type { Bytes } from '../../model/step.ts'
import { lookAtScript } from './ending.ts'

const rows = `COPY public.item (id) FROM stdin;\n${'1\n'.repeat(9000)}\\.\n\n`
const trailer = (kind = '') => `--\n-- PostgreSQL database ${kind}dump complete\n--\n\n`
const script = (kind = '') => `--\n-- PostgreSQL database ${kind}dump\n--\n\n${rows}`

function look(text: string, isDump = true): Promise<string> {
  return lookAtScript(inPieces(Buffer.from(text)), isDump)
}

async function* inPieces(bytes: Buffer): Bytes {
  for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000)
}

test('a script that ends as pg_dump and pg_dumpall end theirs is whole', async () => {
  await look(script() + trailer())
  const restricted = script().replace('COPY', '\\restrict a8Bc\n\nCOPY') + trailer()
  await look(`${restricted}\\unrestrict a8Bc\n\n`)
  await assert.rejects(look(restricted), /restricted mode/)
  await look(`${script()}-- Completed on 2025-01-01\n\n${trailer()}`)
  await look(script('cluster ') + script() + trailer() + trailer('cluster '))
})

test('a script that was cut is not, wherever', async () => {
  const whole = script() + trailer()
  for (const length of [0, 1, 20, 40, 4000, 4096, 10_000, whole.length - 50, whole.length - 15])
    await assert.rejects(look(whole.slice(0, length)), NotWhole, `${length}`)
  // The end of one of its databases is not the end of a server.
  await assert.rejects(look(script('cluster ') + script() + trailer()), /cluster dump complete/)
  await assert.rejects(look(`${script()}${trailer()}CREATE TABLE more (id int);\n`), NotWhole)
})

test('what is no script of pg_dump is no dump; what is not meant to be one is left alone', async () => {
  await assert.rejects(look('<html>not found</html>'), NotWhole)
  await look("SET work_mem = '1MB';\n", false)
  await look('PGDMP\x01\x0e')
  await assert.rejects(look(script(), false), NotWhole)
})
