// Measures Cairn: npm run bench -- --help. What and how: bench/README.md.

import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { type Arguments, readArguments, usage } from './arguments.ts'
import { benchDialects } from './dialects.ts'
import { verdicts } from './limits.ts'
import { benchHelp, benchList, benchListS3, type Timing } from './listing.ts'
import { benchMariadb } from './mariadb.ts'
import { benchPostgres, type Comparison } from './postgres.ts'
import { load } from './process-tree.ts'
import { report } from './report.ts'
import { openWorkbench, versions } from './workbench.ts'

const out = join(import.meta.dirname, 'out')

function say(text: string): void {
  process.stderr.write(`${text}\n`)
}

async function main(wanted: Arguments): Promise<void> {
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    process.once(signal, () => process.exit(code))
  }
  const startedAt = new Date()
  const loadBefore = load()
  const bench = await openWorkbench(wanted.cairn)
  const timings: Timing[] = []
  const comparisons: Comparison[] = []
  if (wanted.benches.has('help')) timings.push(...(await benchHelp(bench, wanted.rounds, say)))
  if (wanted.benches.has('list')) timings.push(...(await benchList(bench, wanted.rounds, say)))
  if (wanted.benches.has('list-s3')) timings.push(...(await benchListS3(bench, wanted.rounds, say)))
  const ofPostgres = (['backup', 'gzip', 'verify', 'restore'] as const).filter(name =>
    wanted.benches.has(name),
  )
  if (ofPostgres.length > 0) {
    for (const size of wanted.sizes)
      comparisons.push(...(await benchPostgres(bench, new Set(ofPostgres), size, { ...wanted, say })))
  }
  if (wanted.benches.has('mariadb'))
    for (const size of wanted.sizes) comparisons.push(await benchMariadb(bench, size, { ...wanted, say }))
  if (wanted.benches.has('dialects'))
    for (const size of wanted.sizes)
      comparisons.push(...(await benchDialects(bench, size, { ...wanted, say })))
  const machine = {
    processors: `${cpus().length} x ${cpus()[0]?.model.trim()}`,
    memory: `${(totalmem() / 1e9).toFixed(0)} GB`,
    load: `${loadBefore} before, ${load()} after`,
    ...versions(),
  }
  const found = verdicts(comparisons, timings)
  const about = Object.entries(machine).map(([what, value]) => `${what} ${value}`)
  const text = `${report(comparisons, timings, found)}\n\n${about.join(', ')}\n`
  const name = startedAt.toISOString().slice(0, 19).replaceAll(':', '')
  mkdirSync(out, { recursive: true })
  writeFileSync(join(out, `${name}.txt`), text)
  const lines = [{ startedAt, machine }, ...comparisons.flatMap(runsOf), ...timings, ...found]
  writeFileSync(join(out, `${name}.ndjson`), lines.map(line => `${JSON.stringify(line)}\n`).join(''))
  process.stdout.write(text)
}

/** Each run by itself, with what it was a run of. */
function runsOf({ runs, ...of }: Comparison): object[] {
  return runs.map(run => ({ ...of, ...run }))
}

try {
  const wanted = readArguments(process.argv.slice(2))
  if (wanted === 'help') process.stdout.write(`${usage}\n`)
  else await main(wanted)
  process.exit(0)
} catch (error) {
  say(error instanceof Error ? (error.stack ?? error.message) : String(error))
  process.exit(1)
}
