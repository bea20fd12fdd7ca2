// Finds processes that a run has left behind, whoever their parent is by now.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { alive, pause, signal } from './process.ts'

export interface Survivor {
  pid: number
  /** The command line, arguments joined by spaces; of a long one the beginning and the end. */
  command: string
}

/**
 * Processes with one of the marks in their environment, arguments or working folder, after they had `graceMs` to end.
 * A mark is a text nobody else uses: a random variable that children inherit, a temporary folder. More than one,
 * because some programs overwrite their environment and others are started without it.
 */
export function findSurvivors(marks: string[], graceMs: number): Survivor[] {
  const deadline = performance.now() + graceMs
  let found = marked(marks)
  while (found.length > 0 && performance.now() < deadline) {
    pause(50)
    found = marked(marks)
  }
  return found
}

/** Kills by pid, each only if it still carries a mark. */
export function killSurvivors(marks: string[]): void {
  for (const { pid } of marked(marks)) signal(pid, 'SIGKILL')
}

function marked(marks: string[]): Survivor[] {
  const pids = readdirSync('/proc').map(Number).filter(Number.isInteger)
  return pids
    .filter(pid => pid !== process.pid && alive(pid) && marks.some(mark => traces(pid).includes(mark)))
    .map(pid => ({ pid, command: shortened(read(pid, 'cmdline').replaceAll('\0', ' ').trim()) }))
}

/** Node starts test files with a screen full of options, and the file last. */
function shortened(command: string): string {
  return command.length <= 400 ? command : `${command.slice(0, 200)} ... ${command.slice(-200)}`
}

function traces(pid: number): string {
  return [read(pid, 'environ'), read(pid, 'cmdline'), workingFolder(pid)].join('\0')
}

/** Empty when the process is gone or is not ours to look at. */
function read(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return ''
  }
}

function workingFolder(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/cwd`)
  } catch {
    return ''
  }
}
