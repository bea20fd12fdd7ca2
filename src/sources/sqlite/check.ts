import type { DatabaseSync } from 'node:sqlite'
import type { Context } from '../../model/context.ts'
import { flow } from '../../platform/flow.ts'
import { immutable } from './connect.ts'

/** A table and its rows; null where they cannot be counted, because only its own program knows its module. */
export interface Counted {
  readonly name: string
  readonly rows: number | null
}

/** What a closer look at a database file found. */
export interface Report {
  /** Empty when the database is whole. */
  readonly problems: readonly string[]
  /** Why less than everything was checked, or ''. */
  readonly lessBecause: string
  readonly tables: readonly Counted[]
}

/**
 * Checks a database file that nobody uses, and counts the rows of its tables where `counts`. In a process of
 * its own: it takes long, it must be possible to stop it, and a damaged file may crash SQLite.
 */
export async function examine(path: string, counts: boolean, ctx: Context): Promise<Report> {
  const code = `${countTables}\n${reportOn}\nreportOn(...process.argv.slice(1))`
  const program = {
    program: process.execPath,
    args: ['--no-warnings', '-e', code, immutable(path), counts ? 'counts' : ''],
  }
  const chunks: Uint8Array[] = []
  for await (const chunk of flow(program, [], ctx)) chunks.push(chunk)
  return JSON.parse(Buffer.concat(chunks).toString('utf8')) as Report
}

/** The tables of a database one after another, without SQLite's own and those behind virtual tables. */
export function* countTables(db: DatabaseSync, counts: boolean): Generator<Counted, void, undefined> {
  const tables = db.prepare(
    "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual')",
  )
  for (const row of tables.all()) {
    const name = String(row.name)
    if (/^sqlite_/i.test(name)) continue
    let rows: number | null = null
    try {
      if (counts)
        rows = Number(db.prepare(`SELECT count(*) AS n FROM "${name.replaceAll('"', '""')}"`).get()?.n)
    } catch {
      // A virtual table of a module that is not part of SQLite.
    }
    yield { name, rows }
  }
}

/** Runs in the other process, as text: it can use nothing of this file but `countTables`. */
function reportOn(file: string, counts: string): void {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite')
  const check = (pragma: string): string[] => {
    const db = new DatabaseSync(file, { readOnly: true, enableDoubleQuotedStringLiterals: true })
    const found = db.prepare(`PRAGMA ${pragma}(20)`).all()
    return found.flatMap(row => Object.values(row).map(String)).filter(line => line !== 'ok')
  }
  const attempt = (pragma: string): string[] => {
    try {
      return check(pragma)
    } catch (error) {
      return [error instanceof Error ? error.message : String(error)]
    }
  }
  // Collations, functions and modules that only the database's own program has: indexes cannot be checked then.
  const foreign = /no such (collation|function|module|tokenizer)|unknown (function|tokenizer|module)/i
  let problems = attempt('integrity_check')
  let lessBecause = ''
  if (problems.some(problem => foreign.test(problem))) {
    lessBecause = problems.find(problem => foreign.test(problem)) ?? ''
    problems = attempt('quick_check').filter(problem => !foreign.test(problem))
  }
  let tables: unknown[] = []
  try {
    const db = new DatabaseSync(file, { readOnly: true, enableDoubleQuotedStringLiterals: true })
    tables = [...countTables(db, counts !== '')]
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error))
  }
  process.getBuiltinModule('node:fs').writeFileSync(1, JSON.stringify({ problems, lessBecause, tables }))
}
