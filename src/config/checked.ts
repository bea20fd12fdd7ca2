import { usage } from '../model/failure.ts'
import { crossCheck } from './cross-check.ts'
import { Config } from './schema.ts'

/** A configuration that did not come from a file. Throws one Failure (exit 2) that lists every error. */
export function checkedConfig(plain: unknown, origin: string): Config {
  const result = Config.safeParse(plain)
  const faults = result.success
    ? crossCheck(result.data).map(({ text }) => text)
    : result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`)
  if (result.success && faults.length === 0) return result.data
  throw usage(`${origin} is not valid`, faults.join('; '), 'nothing was touched')
}
