import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { stringify } from 'yaml'
import { generated } from '../docs/generate/index.ts'
import { exampleOf } from '../docs/generate/sample.ts'
import { configSchema, type JsonSchema, resolved } from '../src/config/json-schema.ts'
import { parseConfig } from '../src/config/read.ts'

const root = configSchema()

test('the generated pages of the reference are those of this program', () => {
  for (const [name, text] of Object.entries(generated())) {
    const file = readFileSync(join(import.meta.dirname, '../docs/reference', name), 'utf8')
    assert.ok(file === text, `docs/reference/${name} is out of date: npm run docs`)
  }
})

test('the sample file is a configuration that works', () => {
  const config = parseConfig(generated()['cairn.yaml'] ?? '', 'sample')
  assert.deepEqual(Object.keys(config.stores), ['disk'])
  assert.equal(Object.keys(config.jobs).length, 1)
})

/** The options that must be there. */
function needed(schema: JsonSchema): Record<string, unknown> {
  const entries = Object.entries(schema.properties ?? {})
  const must = entries.filter(([name]) => schema.required?.includes(name))
  return Object.fromEntries(must.map(([name, option]) => [name, exampleOf(option, root)]))
}

function formsOf(schema: JsonSchema | undefined): JsonSchema[] {
  const whole = resolved(schema ?? {}, root)
  return [...(whole.oneOf ?? whole.anyOf ?? [whole])].map(form => resolved(form, root))
}

/** Options that only make sense with, or without, another one. */
const companions: Readonly<Record<string, object>> = {
  'source postgres.exclude': { databases: 'all' },
  'source postgres.jobs': { format: 'directory' },
  'store s3.accessKeyId': { secretAccessKey: 'x' },
  'store s3.secretAccessKey': { accessKeyId: 'x' },
}

function accepts(what: string, config: object): string[] {
  try {
    parseConfig(stringify(config), 'example')
    return []
  } catch (error) {
    return [`${what}: ${(error as Error).message}`]
  }
}

test('the example of every option is accepted, and every option says what it is about', () => {
  const store = { type: 'local', path: '/var/backups' }
  const base = { stores: { disk: store }, jobs: {} }
  const source = { type: 'files', paths: ['/data'] }
  const job = resolved(root.properties?.jobs?.additionalProperties ?? {}, root)
  const faults: string[] = []
  const each = (what: string, form: JsonSchema, place: (options: object) => object): void => {
    for (const [name, option] of Object.entries(form.properties ?? {})) {
      const path = `${what}.${name}`
      const own = { ...needed(form), [name]: exampleOf(option, root), ...companions[path] }
      faults.push(...accepts(path, place(own)))
      const about = resolved(option, root).description
      if (!about && name !== 'type') faults.push(`${path}: it has no description`)
    }
  }
  for (const form of formsOf(root.properties?.stores?.additionalProperties))
    each(`store ${form.properties?.type?.const}`, form, own => ({ stores: { ...base.stores, x: own } }))
  for (const form of formsOf(job.properties?.source))
    each(`source ${form.properties?.type?.const}`, form, own => ({
      ...base,
      jobs: { x: { source: own, to: ['disk'] } },
    }))
  const { source: _source, sources: _sources, ...options } = job.properties ?? {}
  each('job', { properties: options }, own => ({ ...base, jobs: { x: { source, to: ['disk'], ...own } } }))
  for (const key of ['encryption', 'compression'])
    for (const form of formsOf(root.properties?.[key]))
      for (const [kind, options] of Object.entries(form.properties ?? {}))
        for (const inner of formsOf(options))
          each(`${key} ${kind}`, inner, own => ({ ...base, [key]: { [kind]: own } }))
  assert.deepEqual(faults, [])
})
