import { stringify } from 'yaml'
import { type JsonSchema, resolved } from '../../src/config/json-schema.ts'

const head = `# Every option of cairn.yaml, generated from the program (npm run docs). What is not commented out is a configuration
# that works: a folder of files, backed up into another folder. Take what you need.
`

/** A configuration in which each option stands once, in its place, with what it is about; all but the needed ones commented out. */
export function sampleFile(root: JsonSchema): string {
  const { stores, jobs, encryption, compression, defaults } = root.properties ?? {}
  const storeTypes = resolved(stores?.additionalProperties ?? {}, root)
  const job = resolved(jobs?.additionalProperties ?? {}, root)
  const sourceTypes = resolved(job.properties?.source ?? {}, root)
  const { source: _source, sources: _sources, to: _to, ...jobOnly } = job.properties ?? {}
  const namesOf = (types: JsonSchema): JsonSchema[] => [...(types.oneOf ?? types.anyOf ?? [])]
  const typeOf = (type: JsonSchema): string => String(type.properties?.type?.const)
  return [
    head,
    'stores:',
    ...namesOf(storeTypes).flatMap(type => {
      const lines = block(typeFirst(type), root)
      const entry = [`${typeOf(type) === 'local' ? 'disk' : typeOf(type)}:`, ...indented(lines)]
      return ['', ...indented(typeOf(type) === 'local' ? entry : commented(entry))]
    }),
    '',
    ...eachForm('encryption', encryption ?? {}, root),
    ...eachForm('compression', compression ?? {}, root),
    '',
    '# What every job says that does not say it itself.',
    ...commented([
      'defaults:',
      ...indented(block({ ...resolved(defaults ?? {}, root), required: [] }, root)),
    ]),
    '',
    'jobs:',
    ...namesOf(sourceTypes).flatMap(type => {
      const lines = ['source:', ...indented(block(typeFirst(type), root)), 'to: [disk]']
      const entry = [`${typeOf(type)}-job:`, ...indented(lines)]
      return ['', ...indented(typeOf(type) === 'files' ? entry : commented(entry))]
    }),
    '',
    ...indented(['    # What else a job can say.', ...indented(block({ properties: jobOnly }, root))]),
    '',
  ].join('\n')
}

/** One of several things that an option can be, each shown on its own. */
function eachForm(name: string, schema: JsonSchema, root: JsonSchema): string[] {
  const whole = resolved(schema, root)
  const forms = (whole.anyOf ?? whole.oneOf ?? []).map(form => resolved(form, root))
  const withOptions = forms.filter(form => form.properties)
  return [
    ...wrapped(`${whole.description ?? name}; one of these:`),
    ...withOptions.flatMap(form => [...commented(property(name, form, root)), '']),
  ]
}

function typeFirst(schema: JsonSchema): JsonSchema {
  const { type, ...others } = schema.properties ?? {}
  return { ...schema, properties: { ...(type ? { type } : {}), ...others } }
}

/** The options of an object, each after a comment that tells what it is about. */
function block(schema: JsonSchema, root: JsonSchema): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, raw]) => {
    const { description } = raw
    const { default: unset } = resolved(raw, root)
    const isNeeded = schema.required?.includes(name) === true && unset === undefined
    const lines = property(name, raw, root)
    const about = description ? wrapped(description) : []
    return [...about, ...(isNeeded ? lines : commented(lines))]
  })
}

function property(name: string, raw: JsonSchema, root: JsonSchema): string[] {
  const schema = resolved(raw, root)
  const form = schema.examples ? schema : formOf(schema, root)
  if (!schema.examples && form.properties) {
    const inner = block({ ...form, required: Object.keys(form.properties) }, root)
    return [`${name}:`, ...indented(inner)]
  }
  const value = stringify(exampleOf(schema, root), { collectionStyle: 'flow', lineWidth: 0 }).trimEnd()
  return [`${name}: ${value}`]
}

/** Of alternatives the first that has options, else the first. */
function formOf(schema: JsonSchema, root: JsonSchema): JsonSchema {
  const branches = (schema.anyOf ?? schema.oneOf)?.map(branch => resolved(branch, root))
  if (!branches) return schema
  return branches.find(branch => branch.properties) ?? branches[0] ?? {}
}

/** A value the option can have: one that was given as an example, its default, or what its type suggests. */
export function exampleOf(schema: JsonSchema, root: JsonSchema): unknown {
  const whole = resolved(schema, root)
  if (whole.examples) return whole.examples[0]
  if (whole.const !== undefined) return whole.const
  if (whole.enum) return whole.enum.find(each => each !== whole.default) ?? whole.enum[0]
  if (whole.type === 'boolean') return whole.default !== true
  if (whole.default !== undefined && JSON.stringify(whole.default).length > 2) return whole.default
  if (whole.anyOf ?? whole.oneOf) return exampleOf(formOf(whole, root), root)
  if (whole.type === 'array') return [exampleOf(whole.items ?? {}, root)]
  if (whole.type === 'integer' || whole.type === 'number') return 1
  if (whole.type === 'object') {
    if (whole.additionalProperties) return { name: exampleOf(whole.additionalProperties, root) }
    const needed = Object.entries(whole.properties ?? {}).filter(([name]) => whole.required?.includes(name))
    return Object.fromEntries(needed.map(([name, inner]) => [name, exampleOf(inner, root)]))
  }
  return 'TEXT'
}

function indented(lines: readonly string[]): string[] {
  return lines.map(line => (line === '' ? '' : `  ${line}`))
}

function commented(lines: readonly string[]): string[] {
  return lines.map(line => (line.startsWith('#') ? line : `# ${line}`))
}

function wrapped(text: string): string[] {
  const lines: string[] = []
  let line = '#'
  for (const word of text.split(/\s+/)) {
    if (line.length + word.length > 110) {
      lines.push(line)
      line = '#'
    }
    line += ` ${word}`
  }
  return [...lines, line]
}
