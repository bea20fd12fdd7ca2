import { createHash } from 'node:crypto'
import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join, relative } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/** What a comparison found. */
export interface Difference {
  readonly equal: boolean
  readonly said: string
}

/** A folder with what backups of files stumble over. */
export function awkwardFiles(folder: string): void {
  mkdirSync(join(folder, 'empty folder'), { recursive: true })
  mkdirSync(join(folder, 'deep/er/and deeper'), { recursive: true })
  const files: [string, string | Buffer][] = [
    ['plain.txt', 'hello\n'],
    ['empty', ''],
    ['with "quotes" and \'more\'', 'quotes'],
    ['with\nnewline', 'newline'],
    ['-rf', 'a dash'],
    ['--checkpoint-action=exec=false', 'an option'],
    ['emoji 🧱', 'emoji'],
    [
      'deep/er/and deeper/bytes.bin',
      Buffer.from(Array.from({ length: 3_000_000 }, (_, n) => (n * n * 31) >> 7)),
    ],
    [`long ${'x'.repeat(200)}`, 'a long name'],
  ]
  for (const [name, content] of files) writeFileSync(join(folder, name), content)
  chmodSync(join(folder, 'plain.txt'), 0o640)
  symlinkSync('plain.txt', join(folder, 'link'))
  symlinkSync('/nowhere/at all', join(folder, 'dangling'))
  linkSync(join(folder, 'plain.txt'), join(folder, 'hard link'))
}

/**
 * Every row of the restored database against the original, which went on being written to after the backup: the restored
 * one must be what the original was at one moment.
 */
export function ordersDifference(original: string, restored: string): Difference {
  const before = new DatabaseSync(original, { readOnly: true })
  const after = new DatabaseSync(restored, { readOnly: true })
  try {
    const last = Number(after.prepare('SELECT count(*) AS n FROM orders').get()?.n)
    const missed = Number(before.prepare('SELECT count(*) AS n FROM orders').get()?.n) - last
    const rows = 'SELECT id, customer, body, total FROM orders WHERE id <= ? ORDER BY id'
    const orders = equalRows(before.prepare(rows).iterate(last), after.prepare(rows).iterate(last))
    const odd = 'SELECT note FROM "odd ""name"""'
    const notes = equalRows(before.prepare(odd).iterate(), after.prepare(odd).iterate())
    const balances = after
      .prepare('SELECT balance FROM accounts ORDER BY id')
      .all()
      .map(row => Number(row.balance))
    const oneMoment = balances[0] === 1_000_000 - last && balances[1] === last
    return {
      equal: last > 0 && orders && notes && oneMoment,
      said: `${last} orders, row by row, of one moment; ${missed} more were written after it`,
    }
  } finally {
    before.close()
    after.close()
  }
}

function equalRows(left: Iterable<unknown>, right: Iterable<unknown>): boolean {
  const digest = (rows: Iterable<unknown>): string => {
    const hash = createHash('sha256')
    for (const row of rows) {
      for (const value of Object.values(row as Record<string, unknown>)) {
        hash.update(value instanceof Uint8Array ? value : String(value)).update('\0')
      }
    }
    return hash.digest('hex')
  }
  return digest(left) === digest(right)
}

/** Every file, folder and link: names, bytes, modes, times, where links lead. */
export function folderDifference(original: string, restored: string): Difference {
  const before = describe(original)
  const after = describe(restored)
  const names = new Set([...before.keys(), ...after.keys()])
  const wrong = [...names].filter(name => before.get(name) !== after.get(name))
  return {
    equal: wrong.length === 0 && names.size > 0,
    said:
      wrong.length === 0
        ? `${names.size} files, folders and links, byte by byte`
        : `differ: ${wrong.join(', ')}`,
  }
}

function describe(folder: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    const { mode, mtimeMs } = lstatSync(path)
    const content = entry.isSymbolicLink()
      ? readlinkSync(path)
      : entry.isFile()
        ? `${Math.trunc(mtimeMs)} ${createHash('sha256').update(readFileSync(path)).digest('hex')}`
        : ''
    found.set(relative(folder, path), `${mode.toString(8)} ${content}`)
  }
  return found
}
