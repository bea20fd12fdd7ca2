import { availableParallelism } from 'node:os'
import { dialectLimits, oldPeer } from './dialects.ts'
import { helpOf, listOf, listOfMarkedS3, listOfS3, type Timing } from './listing.ts'
import { mariadbPeer } from './mariadb.ts'
import { type Comparison, cairnSide, gzipPeer, type Run, zstdPeer } from './postgres.ts'
import { spread } from './spread.ts'

/** What Cairn promises of its speed and memory, held against what was measured. */
export interface Verdict {
  readonly promise: string
  readonly found: string
  readonly met: boolean
}

const megabyte = 1e6
/** From here on the promises about wall time hold: below, what is paid once weighs too much. */
const promisedFrom = 0.95e9
/** Memory counts as flat when the largest database takes at most this much more than the smallest. */
const flatRatio = 1.2

export function verdicts(comparisons: readonly Comparison[], timings: readonly Timing[]): Verdict[] {
  const backups = comparisons.filter(each => each.bench === 'backup' && each.databaseBytes >= promisedFrom)
  return [
    ...backups.flatMap(speedOf),
    ...comparisons
      .filter(each => each.bench === 'mariadb' && each.databaseBytes >= promisedFrom)
      .map(ofMariadb),
    ...comparisons
      .filter(each => each.bench === 'gzip' && each.databaseBytes >= promisedFrom)
      .map(gzipSpeedOf),
    ...comparisons.filter(each => each.databaseBytes >= promisedFrom).flatMap(ofDialect),
    ...comparisons.map(memoryOf),
    ...(['backup', 'gzip', 'verify', 'restore'] as const).flatMap(bench => flatness(bench, comparisons)),
    ...timings.flatMap(timing => listingOf(timing)),
  ]
}

/** What a run of ours makes of the load is two or three a processor at most: the rest is somebody else's. */
const quietLoad = 3 * availableParallelism()

/** A side that had the machine to itself is not to be compared with one that had not. */
export function isBusy({ runs }: Comparison): boolean {
  return runs.some(run => run.load > quietLoad)
}

function speedOf(comparison: Comparison): Verdict[] {
  const over = ratios(comparison, zstdPeer, (ours, theirs) => ours.seconds - 1.1 * theirs.seconds)
  const part = ratios(comparison, gzipPeer, (ours, theirs) => ours.seconds / theirs.seconds)
  const found = [
    judged(
      `backup ${comparison.size}: wall at most 1.10 x + 0.7 s of ${zstdPeer}`,
      over,
      0.7,
      value => `1.10 x ${value < 0 ? '-' : '+'} ${Math.abs(value).toFixed(2)} s`,
    ),
    judged(
      `backup ${comparison.size}: wall at most 0.20 x of ${gzipPeer}`,
      part,
      0.2,
      value => `${value.toFixed(3)} x`,
    ),
  ]
  if (!isBusy(comparison)) return found
  return found.map(each => ({ ...each, found: `${each.found}, on a busy machine: says little` }))
}

function ofMariadb(comparison: Comparison): Verdict {
  const wall = ratios(comparison, mariadbPeer, (ours, theirs) => ours.seconds / theirs.seconds)
  const promise = `backup of MariaDB ${comparison.size}: wall at most 1.15 x of ${mariadbPeer}`
  return judged(promise, wall, 1.15, value => `${value.toFixed(2)} x`)
}

function gzipSpeedOf(comparison: Comparison): Verdict {
  const part = ratios(comparison, gzipPeer, (ours, theirs) => ours.seconds / theirs.seconds)
  const promise = `gzip ${comparison.size}: wall at most 0.25 x of ${gzipPeer}`
  const found = judged(promise, part, 0.25, value => `${value.toFixed(3)} x`)
  return isBusy(comparison) ? { ...found, found: `${found.found}, on a busy machine: says little` } : found
}

/** Each dialect against what the tool ran that it replaces. */
function ofDialect(comparison: Comparison): Verdict[] {
  const limit = dialectLimits[comparison.bench]
  if (limit === undefined) return []
  const part = ratios(comparison, oldPeer, (ours, theirs) => ours.seconds / theirs.seconds)
  const promise = `${comparison.bench} ${comparison.size}: wall at most ${limit.toFixed(2)} x of ${oldPeer}`
  return [judged(promise, part, limit, value => `${value.toFixed(3)} x`)]
}

/** A figure of each round, of Cairn and a peer in that same round. */
export function ratios(
  { runs }: Comparison,
  peer: string,
  figure: (ours: Run, theirs: Run) => number,
): number[] {
  return runs.flatMap(ours => {
    const theirs = runs.find(run => run.side === peer && run.round === ours.round)
    return ours.side === cairnSide && theirs ? [figure(ours, theirs)] : []
  })
}

function memoryOf(comparison: Comparison): Verdict {
  const peaks = cairnPeaks(comparison)
  const most = Math.max(...peaks) / megabyte
  return {
    promise: `${comparison.bench} ${comparison.size}: Cairn and its stages in at most 250 MB`,
    found: `${most.toFixed(0)} MB at most`,
    met: most <= 250,
  }
}

function flatness(bench: Comparison['bench'], comparisons: readonly Comparison[]): Verdict[] {
  const sized = comparisons
    .filter(each => each.bench === bench)
    .toSorted((a, b) => a.databaseBytes - b.databaseBytes)
  const [smallest] = sized
  const largest = sized.at(-1)
  if (!smallest || !largest || smallest === largest) return []
  const ratio = spread(cairnPeaks(largest)).median / spread(cairnPeaks(smallest)).median
  const promise = `${bench}: memory flat from ${smallest.size} to ${largest.size} (at most ${flatRatio} x)`
  return [{ promise, found: `${ratio.toFixed(2)} x`, met: ratio <= flatRatio }]
}

export function cairnPeaks({ runs }: Comparison): number[] {
  return runs.filter(run => run.side === cairnSide).map(run => run.stagesPeakBytes)
}

function listingOf({ what, seconds, requests }: Timing): Verdict[] {
  const within = (limit: number): Verdict =>
    judged(`${what}: under ${limit} s`, seconds, limit, value => `${value.toFixed(3)} s`)
  if (what === helpOf) return [within(0.15)]
  if (what === listOf) return [within(1)]
  if (what !== listOfS3 && what !== listOfMarkedS3) return []
  const kinds = Object.entries(requests ?? {})
  const found = kinds.map(([kind, count]) => `${count.toFixed(0)} ${kind}`).join(', ')
  const met = kinds.length > 0 && kinds.every(([kind]) => kind === 'LIST')
  return [{ promise: `${what}: by listing alone`, found, met }]
}

/** Met when the median of the rounds is; says in how many rounds it was. */
function judged(
  promise: string,
  values: readonly number[],
  limit: number,
  show: (value: number) => string,
): Verdict {
  const { median } = spread(values)
  const rounds = values.filter(value => value <= limit).length
  return { promise, found: `${show(median)} (met in ${rounds} of ${values.length})`, met: median <= limit }
}
