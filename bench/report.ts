import { cairnPeaks, isBusy, ratios, type Verdict } from './limits.ts'
import type { Timing } from './listing.ts'
import { type Comparison, cairnSide, type Run } from './postgres.ts'
import { columns, showSpread } from './spread.ts'

/** Everything that was measured, as a person reads it. Spreads are min-median-max. */
export function report(
  comparisons: readonly Comparison[],
  timings: readonly Timing[],
  verdicts: readonly Verdict[],
): string {
  const parts = [
    ...comparisons.map(comparisonText),
    ...(timings.length > 0 ? [timingText(timings)] : []),
    ...(verdicts.length > 0 ? [verdictText(verdicts)] : []),
  ]
  return parts.join('\n\n')
}

function comparisonText(comparison: Comparison): string {
  const { bench, size, databaseBytes, runs } = comparison
  const sides = [...new Set(runs.map(run => run.side))]
  const rows = sides.map(side =>
    row(
      side,
      runs.filter(run => run.side === side),
      comparison,
    ),
  )
  const head = [
    '',
    'wall s',
    'wall: cairn/this',
    'CPU s',
    'server CPU s',
    'memory MB',
    'stages MB',
    'stored MB',
  ]
  const title = `${bench} ${size} (a database of ${(databaseBytes / 1e6).toFixed(0)} MB), ${runs.length / sides.length} rounds`
  return [title, columns([head, ...rows]), programText(comparison), ...busy(comparison)].join('\n')
}

function row(side: string, runs: readonly Run[], comparison: Comparison): string[] {
  const of = (figure: (run: Run) => number, digits = 2): string => showSpread(runs.map(figure), digits)
  const ratio = ratios(comparison, side, (ours, theirs) => ours.seconds / theirs.seconds)
  return [
    side,
    of(run => run.seconds),
    side === cairnSide ? '' : showSpread(ratio),
    of(run => run.cpuSeconds),
    of(run => run.serverSeconds),
    of(run => run.peakBytes / 1e6, 0),
    of(run => run.stagesPeakBytes / 1e6, 0),
    (runs[0]?.outBytes ?? 0) > 0 ? of(run => run.outBytes / 1e6, 0) : '',
    of(run => run.load, 1),
  ]
}

function busy(comparison: Comparison): string[] {
  if (!isBusy(comparison)) return []
  return ['the machine was busy with other work: its wall times, and ratios of them, say little']
}

/** Cairn's memory and CPU by program, from its last round: each one's own peak, so they do not add up to a moment's. */
function programText(comparison: Comparison): string {
  const last = comparison.runs.findLast(run => run.side === cairnSide)
  const each = Object.entries(last?.programs ?? {})
    .toSorted(([, a], [, b]) => b.peakBytes - a.peakBytes)
    .map(
      ([name, { peakBytes, cpuSeconds }]) =>
        `${name} ${(peakBytes / 1e6).toFixed(0)} MB ${cpuSeconds.toFixed(2)} s`,
    )
  return `cairn by program: ${each.join(', ')}; its stages ${showSpread(
    cairnPeaks(comparison).map(b => b / 1e6),
    0,
  )} MB`
}

function timingText(timings: readonly Timing[]): string {
  const rows = timings.map(({ what, seconds, cpuSeconds, peakBytes, requests }) => [
    what,
    showSpread(seconds, 3),
    showSpread(cpuSeconds),
    showSpread(
      peakBytes.map(bytes => bytes / 1e6),
      0,
    ),
    Object.entries(requests ?? {})
      .map(([kind, count]) => `${count.toFixed(0)} ${kind}`)
      .join(' '),
  ])
  return columns([['', 'wall s', 'CPU s', 'memory MB', 'requests'], ...rows])
}

function verdictText(verdicts: readonly Verdict[]): string {
  return columns([
    ['promise', 'found', ''],
    ...verdicts.map(({ promise, found, met }) => [promise, found, met ? 'met' : 'NOT met']),
  ])
}
