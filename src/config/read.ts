import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { type Document, isMap, isNode, isScalar, LineCounter, type Node, parseDocument } from 'yaml'
import type * as z from 'zod'
import { usage } from '../model/failure.ts'
import { suggest } from '../model/suggest.ts'
import { crossCheck } from './cross-check.ts'
import { configSchema, type JsonSchema, resolved } from './json-schema.ts'
import { pathsAsSecrets } from './paths-as-secrets.ts'
import { Config } from './schema.ts'
import { unreplaced } from './unreplaced.ts'

/** Where the configuration is looked for when nobody says. */
const defaultPlaces = ['cairn.yaml', '/etc/cairn/cairn.yaml'] as const

/** The configuration file to use: the flag, `CAIRN_CONFIG`, `./cairn.yaml`, `/etc/cairn/cairn.yaml`; null when there is none. */
export function findConfig(flag: string | undefined, env: NodeJS.ProcessEnv = process.env): string | null {
  const named = flag ?? (env.CAIRN_CONFIG || undefined)
  if (named !== undefined) return resolve(named)
  const place = defaultPlaces.find(candidate => existsSync(candidate))
  return place === undefined ? null : resolve(place)
}

/** Reads and checks a configuration file. Throws one Failure (exit 2) that lists every error with its path and line. */
export function readConfig(path: string): Config {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    const what = `cannot read the configuration ${path}`
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'EACCES')
      throw usage(what, 'permission denied (EACCES)', 'give the user that runs cairn the right to read it')
    const why = code === 'ENOENT' ? 'there is no such file' : message
    throw usage(what, why, 'cairn init writes one; --config FILE names another')
  }
  return parseConfig(text, path)
}

export function parseConfig(text: string, path: string): Config {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const faults = [...document.errors, ...document.warnings].map(fault => ({
    line: lines.linePos(fault.pos[0]).line,
    text: fault.message,
  }))
  if (faults.length > 0) throw invalid(path, faults)
  const raw: unknown = document.toJS({ maxAliasCount: 100 })
  const result = Config.safeParse(raw ?? {})
  const lineOf = (keys: readonly PropertyKey[]): number => {
    // The nearest node that exists: a missing key is reported where it should stand.
    for (let depth = keys.length; depth >= 0; depth--) {
      const node = nodeAt(document, keys.slice(0, depth))
      if (node?.range) return lines.linePos(node.range[0]).line
    }
    return 1
  }
  const wrong = result.success
    ? crossCheck(result.data).map(({ path, text, word, known }) => ({
        path,
        text: text + didYouMean(word, known),
      }))
    : result.error.issues.flatMap(issue => explain(issue, raw))
  const found = [...wrong, ...unreplaced(raw), ...pathsAsSecrets(raw)]
  if (result.success && found.length === 0) return result.data
  throw invalid(
    path,
    found.map(fault => ({ ...fault, line: lineOf(fault.path) })),
  )
}

/** The key at the end of the path where there is one, because a mapping begins on the line after it; else the value. */
function nodeAt(document: Document, path: readonly PropertyKey[]): Node | null {
  const holder = document.getIn(path.slice(0, -1), true)
  const pair = isMap(holder)
    ? holder.items.find(({ key }) => isScalar(key) && key.value === path.at(-1))
    : null
  const node = pair?.key ?? document.getIn(path, true)
  return isNode(node) ? node : null
}

function didYouMean(word: string, known: readonly string[]): string {
  const meant = suggest(word, known)
  if (meant) return `; did you mean "${meant}"?`
  return known.length > 0 ? `; there are ${known.join(', ')}` : ''
}

function invalid(path: string, faults: readonly { line: number; text: string }[]): Error {
  const list = faults.toSorted((a, b) => a.line - b.line).map(fault => `  line ${fault.line}: ${fault.text}`)
  const count = faults.length === 1 ? 'one error' : `${faults.length} errors`
  return usage(
    `the configuration ${path} is not valid`,
    `${count}\n${list.join('\n')}`,
    'nothing was touched',
  )
}

interface Fault {
  readonly path: readonly PropertyKey[]
  readonly text: string
}

/** One fault in words for a person: where, what is wrong, and what was probably meant. */
function explain(issue: z.core.$ZodIssue, raw: unknown): Fault[] {
  const at = issue.path.map(String).join('.') || 'the file'
  if (issue.code === 'unrecognized_keys') {
    const known = knownKeys(issue.path, raw)
    return issue.keys.map(key => ({
      path: [...issue.path, key],
      text: unknownKey(at, key, known, issue.path),
    }))
  }
  if (issue.code === 'invalid_union' && issue.discriminator !== undefined) {
    const given = valueAt(raw, issue.path)
    const options = (issue as { options?: unknown[] }).options?.map(String) ?? []
    const meant = typeof given === 'string' ? suggest(given, options) : null
    const found = given === undefined ? 'it is missing; it is one' : `"${String(given)}" is not one`
    const hint = meant ? `; did you mean "${meant}"?` : ` of ${options.join(', ')}`
    return [{ path: issue.path, text: `${at}: ${found}${hint}` }]
  }
  if (issue.code === 'invalid_union') {
    const value = valueAt(raw, issue.path)
    return [{ path: issue.path, text: `${at}: ${alternatives(issue.errors.flat(), value)}` }]
  }
  if (issue.code === 'invalid_key') return [{ path: issue.path, text: `${at}: ${issue.issues[0]?.message}` }]
  if (issue.code === 'invalid_type' && valueAt(raw, issue.path) === undefined)
    return [{ path: issue.path, text: `${at}: it is missing` }]
  return [{ path: issue.path, text: `${at}: ${inWords(issue, valueAt(raw, issue.path))}` }]
}

/** What each alternative wants; where the value has the type of one, only what that one says. */
function alternatives(issues: readonly z.core.$ZodIssue[], value: unknown): string {
  const isOfOther = ({ code, path }: z.core.$ZodIssue): boolean =>
    code === 'invalid_type' && path.length === 0
  const near = issues.filter(issue => !isOfOther(issue))
  const texts = (near.length > 0 ? near : issues).map(issue => inWords(issue, valueAt(value, issue.path)))
  return [...new Set(texts)].join(', or: ')
}

/** A fault of a value as somebody writes YAML; the value itself is not told, for it may be a secret. */
function inWords(issue: z.core.$ZodIssue, value: unknown): string {
  if (issue.code === 'invalid_format' && issue.format === 'url') return 'must be a URL, as https://s3.example'
  if (issue.code !== 'invalid_type') return issue.message
  if (value === null) return 'there is nothing in it: is what belongs to it indented below it?'
  const { expected } = issue
  if (expected === 'string' && typeof value !== 'object') return 'must be text: put it in quotes'
  if (expected === 'number' && typeof value === 'string')
    return /^\d+$/.test(value) ? 'must be a number: without quotes' : 'must be a number'
  if (expected === 'array') return 'must be a list: [ … ]'
  if (expected === 'boolean') return 'must be true or false'
  if (expected === 'object' || expected === 'record') return 'must be keys with values: { key: value }'
  return issue.message
}

/** The keys that the schema allows at a place, by walking its JSON Schema beside the document. */
function knownKeys(path: readonly PropertyKey[], raw: unknown): string[] {
  const root = configSchema()
  let schema: JsonSchema | undefined = root
  let value = raw
  for (const key of path) {
    schema = branchFor(schema, value, root)
    value = (value as Record<PropertyKey, unknown> | undefined)?.[key]
    schema = schema?.properties?.[String(key)] ?? schema?.additionalProperties ?? schema?.items
  }
  return Object.keys(branchFor(schema, value, root)?.properties ?? {})
}

/** Of alternatives, the one whose `type` is the document's; else the first that has properties. */
function branchFor(schema: JsonSchema | undefined, value: unknown, root: JsonSchema): JsonSchema | undefined {
  const whole = schema && resolved(schema, root)
  const branches = whole?.anyOf ?? whole?.oneOf
  if (!branches) return whole
  const type = (value as { type?: unknown } | null)?.type
  const withKeys = branches.map(branch => resolved(branch, root)).filter(branch => branch.properties)
  return withKeys.find(({ properties }) => properties?.type && properties.type.const === type) ?? withKeys[0]
}

function unknownKey(at: string, key: string, known: readonly string[], path: readonly PropertyKey[]): string {
  const where = path.length === 0 ? '' : ` in ${at}`
  return `unknown key "${key}"${where}${didYouMean(key, known)}`
}

function valueAt(raw: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key], raw)
}
