import { type JsonSchema, resolved } from '../../src/config/json-schema.ts'
import { escaped } from './markdown.ts'

/** The page of all options. `root` is the schema of the whole file. */
export function configurationPage(root: JsonSchema): string {
  const { stores, jobs } = root.properties ?? {}
  const storeTypes = alternatives(stores?.additionalProperties ?? {}, root)
  const job = resolved(jobs?.additionalProperties ?? {}, root)
  const sourceTypes = alternatives(job.properties?.source ?? {}, root)
  const common = commonTo(storeTypes)
  const { source: _source, sources: _sources, ...jobOnly } = job.properties ?? {}
  return [
    '# cairn.yaml',
    '',
    'Generated from the program (`npm run docs`); [cairn.yaml](cairn.yaml) shows every option in its place, and',
    '[cairn.schema.json](cairn.schema.json) (`cairn config schema`) lets an editor complete and check the file. An unknown key is an',
    'error. A bold option must be there.',
    '',
    '| key | is |',
    '| --- | --- |',
    '| `stores` | where backups go: [a store](#stores) under each name |',
    '| `jobs` | what is backed up: [a job](#jobs) under each name |',
    '| `defaults` | what holds for every job that does not say it itself: anything of a job but its sources |',
    '| `encryption`, `compression` | as in a job; for all jobs |',
    '',
    '## Stores',
    '',
    'Every store:',
    '',
    ...table({ properties: Object.fromEntries(common) }, root),
    ...storeTypes.flatMap(type => variant(type, new Set([...common.keys(), 'type']), root)),
    '## Jobs',
    '',
    'A job has a `source`, or several in `sources` ([what they can be](#sources)), and:',
    '',
    ...table({ properties: jobOnly }, root),
    '## Sources',
    '',
    ...sourceTypes.flatMap(type => variant(type, new Set(['type']), root)),
    '## Values',
    '',
    ...Object.entries(root.$defs ?? {}).flatMap(([name, schema]) => value(name, schema, root)),
  ].join('\n')
}

/** The forms that a value can have; those with a name of their own are told elsewhere. */
function alternatives(schema: JsonSchema, root: JsonSchema): JsonSchema[] {
  const whole = resolved(schema, root)
  const branches = whole.anyOf ?? whole.oneOf
  return branches
    ? branches.filter(branch => !branch.$ref).flatMap(branch => alternatives(branch, root))
    : [whole]
}

/** The options that all have, whatever their type. */
function commonTo(types: readonly JsonSchema[]): Map<string, JsonSchema> {
  const [first, ...others] = types
  const own = Object.entries(first?.properties ?? {})
  const isIn = (type: JsonSchema, name: string, schema: JsonSchema): boolean =>
    JSON.stringify(type.properties?.[name]) === JSON.stringify(schema)
  return new Map(own.filter(([name, schema]) => others.every(type => isIn(type, name, schema))))
}

function variant(schema: JsonSchema, without: ReadonlySet<string>, root: JsonSchema): string[] {
  const properties = Object.entries(schema.properties ?? {}).filter(([name]) => !without.has(name))
  return [
    `### type: ${String(schema.properties?.type?.const)}`,
    '',
    ...table({ ...schema, properties: Object.fromEntries(properties) }, root),
  ]
}

function value(name: string, schema: JsonSchema, root: JsonSchema): string[] {
  const forms = alternatives(schema, root)
  const tables = forms.filter(form => form.properties).flatMap(form => table(form, root))
  const words = schema.properties ? '' : `${typeOf({ ...schema, description: '' }, root)}. `
  const about = `${words}${schema.description ? `${sentence(schema.description)}.` : ''}`
  return [`### ${name}`, '', ...(about ? [about.trim(), ''] : []), ...tables]
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}

function table(schema: JsonSchema, root: JsonSchema): string[] {
  return [
    '| option | is | unless set | about |',
    '| --- | --- | --- | --- |',
    ...rows(schema, '', root).map(cells => `| ${cells.join(' | ')} |`),
    '',
  ]
}

/** A row for each option; those inside an option, with a dot between, below it. */
function rows(schema: JsonSchema, prefix: string, root: JsonSchema): string[][] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, raw]) => {
    const option = resolved(raw, root)
    const path = `\`${prefix}${name}\``
    const shown = schema.required?.includes(name) && option.default === undefined ? `**${path}**` : path
    const unset =
      option.default === undefined || isBare(option.default) ? '' : `\`${JSON.stringify(option.default)}\``
    const row = [shown, escaped(typeOf(raw, root)), escaped(unset), escaped(raw.description ?? '')]
    const inside = raw.$ref ? [] : alternatives(raw, root).filter(form => form.properties)
    const fitting = inside.filter(form => !form.properties?.type?.const)
    return [row, ...fitting.flatMap(form => rows(form, `${prefix}${name}.`, root))]
  })
}

/** `{}` and `[]` say nothing. */
function isBare(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0
}

function typeOf(schema: JsonSchema, root: JsonSchema): string {
  if (schema.$ref) {
    const name = schema.$ref.replace('#/$defs/', '')
    return `[${name}](#${name.toLowerCase()})`
  }
  const branches = schema.anyOf ?? schema.oneOf
  if (branches) return [...new Set(branches.map(branch => typeOf(branch, root)))].join(' or ')
  if (schema.const !== undefined) return `\`${String(schema.const)}\``
  if (schema.enum) return schema.enum.map(each => `\`${String(each)}\``).join(', ')
  if (schema.type === 'array') return `list of ${typeOf(schema.items ?? {}, root)}`
  if (schema.type === 'boolean') return '`true`, `false`'
  if (schema.type === 'integer') return 'number'
  if (schema.type !== 'object') return schema.type === 'string' ? 'text' : (schema.type ?? '')
  return schema.additionalProperties ? `map of ${typeOf(schema.additionalProperties, root)}` : 'options'
}
