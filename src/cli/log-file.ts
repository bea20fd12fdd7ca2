import { appendFileSync } from 'node:fs'
import { stripVTControlCharacters } from 'node:util'

/**
 * Appends what is said to the file of CAIRN_LOG, as the sidecar's users have it in `/var/log/backup.log`. A file that cannot be
 * written is no reason to fail: it has been said on stderr.
 */
export function appendToLog(text: string, env: NodeJS.ProcessEnv = process.env): void {
  if (!env.CAIRN_LOG) return
  try {
    appendFileSync(env.CAIRN_LOG, `${new Date().toISOString()} ${stripVTControlCharacters(text)}\n`)
  } catch {
    // See above.
  }
}
