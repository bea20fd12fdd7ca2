import * as z from 'zod'
import { Config } from './schema.ts'

/** The part of JSON Schema (draft 2020-12) that describes `cairn.yaml`. */
export interface JsonSchema {
  readonly $ref?: string
  readonly $defs?: Readonly<Record<string, JsonSchema>>
  readonly type?: string
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly default?: unknown
  readonly description?: string
  readonly examples?: readonly unknown[]
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: JsonSchema
  readonly items?: JsonSchema
  readonly anyOf?: readonly JsonSchema[]
  readonly oneOf?: readonly JsonSchema[]
}

/**
 * The schema of the configuration as a person writes it. What recurs stands in `$defs`, under its name. An option's
 * `example` becomes its `examples`, which zod itself leaves out wherever it transforms the value.
 */
export function configSchema(): JsonSchema {
  const schema = z.toJSONSchema(Config, {
    io: 'input',
    override({ jsonSchema }) {
      const { example } = jsonSchema
      if (example === undefined) return
      delete jsonSchema.example
      jsonSchema.examples = [example]
    },
  })
  return { title: 'cairn.yaml', ...schema } as JsonSchema
}

/** What a reference points to, with what stands beside the reference; the schema itself when it is none. */
export function resolved(schema: JsonSchema, root: JsonSchema): JsonSchema {
  if (schema.$ref === undefined) return schema
  const { $ref, ...beside } = schema
  const target = root.$defs?.[$ref.replace('#/$defs/', '')]
  return { ...(target ? resolved(target, root) : {}), ...beside }
}
