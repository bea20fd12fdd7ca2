import { closeSync, constants, openSync, writeSync } from 'node:fs'
import { stripVTControlCharacters } from 'node:util'

/**
 * Appends what is said to the files of CAIRN_LOG (one, or several with ":" between), as the sidecar's users have it in
 * `/var/log/backup.log`. One that cannot be written at once is no reason to fail, or to wait: it has been said on stderr.
 */
export function appendToLog(text: string, env: NodeJS.ProcessEnv = process.env): void {
  const line = `${new Date().toISOString()} ${stripVTControlCharacters(text)}\n`
  for (const path of (env.CAIRN_LOG ?? '').split(':')) if (path !== '') append(path, line)
}

/** A pipe, such as the output of another process, may be full. */
const appending = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK

function append(path: string, line: string): void {
  try {
    const file = openSync(path, appending, 0o666)
    try {
      writeSync(file, line)
    } finally {
      closeSync(file)
    }
  } catch {
    // See above.
  }
}
