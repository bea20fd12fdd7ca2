import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { freshDatabase, freshFolder, orSkip, postgresClients } from '../../../test/services/index.ts'
import { run } from '../../../test/services/process.ts'
import { fillHostile } from '../../../test/support/postgres/hostile.ts'
import { inChunks } from '../../../test/support/reader.ts'
import { readToc } from './toc.ts'

for (const major of [15, 17, 18])
  test(`the table of contents is what pg_restore ${major} says it is, and no more than it is read`, async t => {
    const database = await orSkip(t, freshDatabase(15))
    if (!database) return
    await fillHostile(database, `role_${randomBytes(4).toString('hex')}`)
    const { host, port, user, password, name } = database
    const env = { PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password, PGDATABASE: name }
    const bin = join(postgresClients, String(major), 'bin')
    const file = join(await freshFolder(), 'x.dump')
    await run(join(bin, 'pg_dump'), ['-Fc', '-Z0', '-f', file], { env })

    const archive = readFileSync(file)
    let read = 0
    const counting = async function* () {
      for await (const chunk of inChunks(archive, 1_000)) {
        read += chunk.length
        yield chunk
      }
    }
    const toc = await readToc(counting())
    assert.ok(read < archive.length / 2, `${read} of ${archive.length}`)
    // The first ones are about the archive as such, and are not listed.
    const listed = (await run(join(bin, 'pg_restore'), ['-l', file], { env })).matchAll(
      /^(\d+); \d+ \d+ (.*)$/gm,
    )
    const own = toc.filter(({ kind }) => !['ENCODING', 'STDSTRINGS', 'SEARCHPATH', 'DATABASE'].includes(kind))
    const found = [...listed].map(([, id, text]) => ({ id: Number(id), text: text ?? '' }))
    assert.deepEqual(new Set(found.map(({ id }) => id)), new Set(own.map(({ id }) => id)))
    for (const { id, text } of found) {
      const entry = own.find(each => each.id === id)
      // It shows line breaks as spaces.
      const said = `${entry?.kind} ${entry?.schema ?? '-'} ${entry?.tag}`.replaceAll('\n', ' ')
      assert.ok(text.startsWith(said), `${text}: ${said}`)
    }
    for (const cut of [0, 4, 100, 2_000])
      await assert.rejects(readToc(inChunks(archive.subarray(0, cut))), /cannot read the table of contents/)
  })
