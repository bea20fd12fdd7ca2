import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { test } from 'node:test'

const root = resolve(import.meta.dirname, '..')
const page = readFileSync(join(root, 'docs/pains.md'), 'utf8')

test('every test that docs/pains.md names is there', () => {
  const faults: string[] = []
  let named = 0
  for (const [, file = '', titles = ''] of page.matchAll(/`([\w./-]+\.test\.ts)`((?:[:,;]? “[^”]+”)+)/g)) {
    if (!existsSync(join(root, file))) faults.push(`there is no ${file}`)
    else {
      const text = readFileSync(join(root, file), 'utf8')
      for (const [, title = ''] of titles.matchAll(/“([^”]+)”/g)) {
        named++
        // An ellipsis stands for what the title says of each case.
        const parts = title.split('…').filter(part => part.trim() !== '')
        if (!parts.every(part => text.includes(part.trim()))) faults.push(`${file} has no test “${title}”`)
      }
    }
  }
  assert.deepEqual(faults, [])
  assert.ok(named > 40, `${named} tests are named`)
})
