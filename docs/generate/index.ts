// Writes the pages of docs/reference that come from the program itself: npm run docs
//
// test/reference.test.ts fails while a page and the program differ.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { configSchema } from '../../src/config/json-schema.ts'
import { commandsPage } from './commands.ts'
import { configurationPage } from './configuration.ts'
import { sampleFile } from './sample.ts'

/** Every generated file by its name in docs/reference. */
export function generated(): Record<string, string> {
  const schema = configSchema()
  return {
    'commands.md': commandsPage(),
    'configuration.md': configurationPage(schema),
    'cairn.yaml': sampleFile(schema),
    'cairn.schema.json': `${JSON.stringify(schema, null, 2)}\n`,
  }
}

if (import.meta.main) {
  const folder = join(import.meta.dirname, '../reference')
  for (const [name, text] of Object.entries(generated())) writeFileSync(join(folder, name), text)
}
