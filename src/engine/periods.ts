import { localTime } from '../model/local-time.ts'

/** The calendar periods of which retention keeps the newest backup each. */
export const periods = ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const
export type Period = (typeof periods)[number]

/**
 * The name of the period that a moment falls into on the clocks of a time zone; two moments are in one period exactly
 * when the names are equal. Weeks are those of ISO 8601, from Monday. An hour that the clocks show twice, when summer
 * time ends, is two hours: it is told by its offset.
 */
export function periodOf(period: Period, at: Date, zone: string): string {
  const { year, month, day, hour, offset } = localTime(at, zone)
  const date = `${pad(year, 4)}-${pad(month)}-${pad(day)}`
  if (period === 'hourly') return `${date} ${pad(hour)}h ${offset}`
  if (period === 'daily') return date
  if (period === 'weekly') return weekOf(year, month, day)
  return period === 'monthly' ? date.slice(0, 7) : date.slice(0, 4)
}

/** `2026-W47`: the week belongs to the year that its Thursday is in (ISO 8601). */
function weekOf(year: number, month: number, day: number): string {
  const thursday = new Date(Date.UTC(year, month - 1, day))
  thursday.setUTCDate(thursday.getUTCDate() + 4 - (thursday.getUTCDay() || 7))
  const first = Date.UTC(thursday.getUTCFullYear(), 0, 1)
  const week = Math.ceil(((thursday.getTime() - first) / 86_400_000 + 1) / 7)
  return `${pad(thursday.getUTCFullYear(), 4)}-W${pad(week)}`
}

function pad(n: number, digits = 2): string {
  return String(n).padStart(digits, '0')
}
