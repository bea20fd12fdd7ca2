import { readFileSync, realpathSync } from 'node:fs'
import { usage } from '../model/failure.ts'
import { offsetAt } from '../model/schedule.ts'
import { parseZoneFile, parseZoneRule, type ZoneFile } from './tzif.ts'

/**
 * The zone of this machine by its name, `Europe/Berlin`: TZ, else what /etc/localtime *holds*, else UTC. Its name alone does
 * not tell: Docker mounts the host's file over what the link of the image points to, and Node.js goes by the link.
 * Throws a Failure (exit 2) when TZ names no zone: a job that ran at another hour than was meant would be found out late.
 */
export function localZone(env: NodeJS.ProcessEnv = process.env, file = '/etc/localtime'): string {
  const named = env.TZ ?? ''
  if (named && !isMachines(named, file)) {
    const name = zoneNamed(named)
    if (name !== null) return name
    throw usage(
      `TZ=${env.TZ} is not a time zone`,
      'no zone is called so',
      'write one like Europe/Berlin, or UTC',
    )
  }
  const found = known.get(file) ?? zoneIn(file)
  known.set(file, found)
  return found
}

/** Whether a value of TZ means what the machine itself goes by. */
export function isMachines(tz: string, file = '/etc/localtime'): boolean {
  return tz.replace(/^:/, '') === file
}

/**
 * The zone that a value of TZ means, as libc takes it: a name, the path of a zone's file, or a rule (`CET-1CEST,M3.5.0,M10.5.0/3`),
 * of which it is a zone that goes by it. Null when it is none.
 */
export function zoneNamed(tz: string): string | null {
  const name = tz.replace(/^:/, '').replace(/^.*\/zoneinfo\/(?:posix\/|right\/)?/, '')
  if (isZone(name)) return name
  try {
    return zoneThatShows(parseZoneRule(name), undefined)
  } catch {
    return null
  }
}

/** Rules that differ by a few weeks a year are two versions of one zone's. */
const nearly = 0.85

/** What files held when they were first looked at. */
const known = new Map<string, string>()

function zoneIn(file: string): string {
  let held: ZoneFile
  try {
    held = parseZoneFile(readFileSync(file))
  } catch {
    return 'UTC'
  }
  return zoneThatShows(held, linkedName(file))
}

function zoneThatShows(held: ZoneFile, linked: string | undefined): string {
  const moments = someMoments()
  // The rules of all other zones take a while to load.
  const isUtc = linked === undefined || linked === 'Etc/UTC' || linked === 'UTC'
  if (isUtc && moments.every(moment => held.offsetAt(moment) === 0)) return linked ?? 'UTC'
  const agrees = (name: string) => (moment: number) =>
    held.offsetAt(moment) * 1000 === offsetAt(new Date(moment * 1000), name)
  const isSame = (name: string): boolean => isZone(name) && moments.every(agrees(name))
  // What is likely first: to look at all zones takes longer than everything else at the start.
  const likely = [linked ?? 'UTC', 'UTC'].find(isSame)
  if (likely !== undefined) return likely
  const names = Intl.supportedValuesOf('timeZone').filter(isZone)
  const same = names.find(isSame)
  if (same !== undefined) return same
  // The system and Node.js know different versions of the rules: then the linked one if that is all, else what comes nearest.
  const few = moments.filter((_, index) => index % 8 === 0)
  const score = (name: string): number => few.filter(agrees(name)).length / few.length
  if (linked && isZone(linked) && score(linked) > nearly) return linked
  return names.map(name => ({ name, score: score(name) })).reduce((a, b) => (b.score > a.score ? b : a)).name
}

function linkedName(file: string): string | undefined {
  return /\/zoneinfo\/(?:posix\/|right\/)?(.+)$/.exec(realpathSync(file))?.[1]
}

/** Every twelve hours from last year until the year after next, in seconds. */
function someMoments(): number[] {
  const halfDay = 12 * 3600
  const now = Math.floor(Date.now() / 1000 / halfDay) * halfDay
  return Array.from({ length: 3 * 365 * 2 }, (_, index) => now + (index - 365 * 2) * halfDay)
}

function isZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en-US', { timeZone: name }) !== null
  } catch {
    return false
  }
}
