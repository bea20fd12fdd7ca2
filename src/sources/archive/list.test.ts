import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listable } from './list.ts'

test('few members are listed each, of very many in a folder only the folder', () => {
  const files = (count: number, folder: string) =>
    Array.from({ length: count }, (_, n) => ({ member: `${folder}/db/${n}.bson`, media: 'bson', bytes: n }))
  const alone = { member: 'mongo.tar.gz', media: 'tar', bytes: 7 }
  const few = [...files(3, 'mongo'), alone]
  assert.equal(listable(few, ['mongo']), few)
  const many = [...files(400, 'mongo'), alone, ...files(300, 'mongo-2')]
  assert.deepEqual(listable(many, ['mongo', 'mongo-2']), [
    { member: 'mongo', media: 'folder', bytes: 79_800, files: 400 },
    alone,
    { member: 'mongo-2', media: 'folder', bytes: 44_850, files: 300 },
  ])
})
