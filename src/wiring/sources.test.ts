import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Config } from '../config/schema.ts'
import type { Manifest } from '../model/manifest.ts'
import { openRestorer } from './sources.ts'

const config = Config.parse({})

function of(engine: string): Manifest {
  const artifacts = [
    { name: 'census.json', role: 'census' },
    { name: 'dumps/my shop', role: 'data' },
  ]
  return { id: 'ID', job: 'shop', source: { engine, options: {} }, artifacts } as unknown as Manifest
}

test('a folder as the target of a database is refused before anything is read, and says how to get the dump', () => {
  for (const engine of ['postgres', 'mariadb', 'mysql', 'mongodb'])
    for (const to of ['restored', '/tmp/out', './x.sql', 'http://u:secret@h/x'])
      assert.throws(
        () => openRestorer(of(engine), to, config),
        ({ exit, message, remedy }) =>
          exit === 2 && !message.includes('secret') && remedy.includes("cairn cat ID 'dumps/my shop' > FILE"),
        `${engine} ${to}`,
      )
})

test('addresses of databases are taken in all their forms', () => {
  const forms = {
    postgres: ['postgresql://u@h/d', 'postgres:///d', 'host=h dbname=d', 'dbname = d'],
    mariadb: ['mariadb://u@h/d', 'mysql://u@h/d'],
    mysql: ['mysql://u@h/d', 'mariadb://u@h/d'],
    mongodb: ['mongodb://h/d', 'mongodb+srv://h/d'],
  }
  for (const [engine, targets] of Object.entries(forms))
    for (const to of targets) assert.ok(openRestorer(of(engine), to, config), to)
})
