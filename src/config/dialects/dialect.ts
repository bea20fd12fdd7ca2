import type { Variables } from './variables.ts'

/** What stands in a `cairn.yaml`, before it is read: maps, lists, texts and numbers. */
export type Plain = { readonly [key: string]: unknown }

/** The environment variables, and the files, of a tool that Cairn replaces. */
export interface Dialect {
  readonly name: string
  /** Each of these alone says that the tool is meant. */
  readonly strong: readonly string[]
  /** These say it only where no other tool is meant more strongly; all of them must be set. */
  readonly weak: readonly (readonly string[])[]
  /** What it cannot do without, for whoever has set nothing. */
  readonly needs: string
  /** Whether arguments after the name of the image are the dump program's; they meant nothing to the others. */
  readonly takesArguments?: true
  /** What its variables begin with: others that do are probably misspelt. */
  readonly prefixes: readonly string[]
  /** Whether its container stayed up, and did nothing, when variables were missing. */
  readonly waits?: true
  /** The webhooks that the configuration has, which may be told when the rest of it is wrong. */
  webhooks?(env: Variables): Plain | null
  /** The configuration that does the same. `args` follow the name of the image. Faults go to the variables. */
  translate(env: Variables, args: readonly string[]): Plain
}
