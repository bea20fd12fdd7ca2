import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const benches = [
  'help',
  'list',
  'list-s3',
  'backup',
  'gzip',
  'verify',
  'restore',
  'mariadb',
  'dialects',
] as const
export type Bench = (typeof benches)[number]

export interface Arguments {
  readonly benches: ReadonlySet<Bench>
  readonly sizes: readonly { readonly name: string; readonly bytes: number }[]
  readonly rounds: number
  readonly seed: number
  /** The Cairn to measure. */
  readonly cairn: string
}

export const usage = `npm run bench -- [BENCH...] [--size 100MB,1GB] [--rounds 3] [--seed 1] [--cairn PATH]

BENCH   ${benches.join(', ')}; without one: all
--size  of the database as PostgreSQL tells it, in MB or GB (decimal); several, by commas. Needs three times as much
        disk in TMPDIR, and 2 GB
--rounds  how often each side runs; the sides of a round follow each other
--cairn   another checkout's bin/cairn, to compare two`

/** Throws an Error whose message is for a person. */
export function readArguments(argv: readonly string[]): Arguments | 'help' {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      size: { type: 'string', multiple: true, default: ['100MB,1GB'] },
      rounds: { type: 'string', default: '3' },
      seed: { type: 'string', default: '1' },
      cairn: { type: 'string', default: join(import.meta.dirname, '../bin/cairn') },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return 'help'
  return {
    benches: new Set(positionals.length > 0 ? positionals.map(benchOf) : benches),
    sizes: values.size.flatMap(sizes => sizes.split(',')).map(sizeOf),
    rounds: numberOf('--rounds', values.rounds),
    seed: numberOf('--seed', values.seed),
    cairn: resolve(values.cairn),
  }
}

function benchOf(name: string): Bench {
  const known = benches.find(bench => bench === name)
  if (known) return known
  throw new Error(`there is no bench "${name}"; there are ${benches.join(', ')}`)
}

function sizeOf(text: string): { name: string; bytes: number } {
  const [, number, unit = ''] = /^(\d+) ?(MB|GB)$/i.exec(text.trim()) ?? []
  const bytes = Number(number) * (unit.toUpperCase() === 'GB' ? 1e9 : 1e6)
  if (bytes >= 20e6) return { name: `${number} ${unit.toUpperCase()}`, bytes }
  throw new Error(`"${text}" is not a size: write it as 100MB or 1GB, and not below 20MB`)
}

function numberOf(option: string, text: string): number {
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text)
  throw new Error(`${option} wants a whole number from 1 on, not "${text}"`)
}
