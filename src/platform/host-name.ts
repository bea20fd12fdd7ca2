import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { createFile, replaceFile } from './atomic-file.ts'
import { areSame, type Machine } from './machine.ts'

/** A name, and the machine that has it, as far as that is known. */
interface Named {
  readonly name: string
  readonly machine: Machine
}

/**
 * The name of this host in a file, which is made when it is missing: the host's name and a random part, as two machines may
 * both be called "backup". A machine that finds only names of others, because it was cloned with the file, adds one of its
 * own: what two hosts of one name have begun, and what they back up by paths, nobody could tell apart. `isNew`: it did so now.
 */
export function hostName(file: string, machine: Machine): { name: string; isNew: boolean } {
  const there = namesIn(file)
  const known = there ?? []
  const found = known.find(each => areSame(each.machine, machine))
  if (found && Object.keys(machine).every(kind => found.machine[kind]))
    return { name: found.name, isNew: false }
  const name = found?.name ?? `${hostname()}/${randomUUID().slice(0, 8)}`
  const own = { name, machine: { ...found?.machine, ...machine } }
  try {
    if (there === null) {
      // Of processes that begin together, all must take the name of the first.
      if (!createFile(file, linesOf([own]))) return hostName(file, machine)
    } else replaceFile(file, linesOf([...known.filter(each => each !== found), own]))
  } catch (error) {
    // A full disk: what is known of the machine is written another time.
    if (!found) throw error
  }
  return { name, isNew: !found && known.length > 0 }
}

/** A line each: the name, and what is known of its machine. Null: there is no such file. */
function namesIn(file: string): Named[] | null {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return null
    // Another user's is replaced, where that is permitted; one that cannot be read at this moment must not be.
    if (code === 'EACCES') return []
    throw error
  }
  return text.split('\n').flatMap(line => {
    const [name = '', ...facts] = line.trim().split(' ')
    const machine = Object.fromEntries(facts.map(fact => fact.split('=', 2) as [string, string]))
    return name === '' ? [] : [{ name, machine }]
  })
}

function linesOf(names: readonly Named[]): string {
  const lines = names.map(({ name, machine }) =>
    [name, ...Object.entries(machine).map(([kind, text]) => `${kind}=${text}`)].join(' '),
  )
  return `${lines.join('\n')}\n`
}
