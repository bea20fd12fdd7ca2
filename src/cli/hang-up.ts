// SIGHUP: a terminal that was closed, or somebody who wants the configuration read again.

/** Who answers; null: nobody yet, and one that comes waits. */
let answer: (() => void) | null = null
let waits = false
let isHeld = false

/** From now on SIGHUP does not end the process: one that comes before somebody answers waits for him. */
export function holdHangUps(): void {
  if (isHeld) return
  isHeld = true
  process.on('SIGHUP', () => {
    waits = true
    deliver()
  })
}

/** From now on this is done at SIGHUP. */
export function answerHangUps(to: () => void): void {
  answer = to
  holdHangUps()
  deliver()
}

function deliver(): void {
  if (!waits || !answer) return
  waits = false
  answer()
}

let isEnding = false

/**
 * Ends as at SIGTERM, after clearing up. Once: a terminal sends SIGHUP, and its shell again, and who is told twice does not clear
 * up. Not where `nohup` asked for that: Node.js forgets it, so `bin/cairn` tells us.
 */
export function endAtHangUp(): void {
  if (isEnding || process.env.CAIRN_NOHUP) return
  isEnding = true
  process.kill(process.pid, 'SIGTERM')
}
