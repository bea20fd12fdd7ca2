import { randomBytes } from 'node:crypto'
import type { Context } from '../../model/context.ts'
import type { Bytes, Program } from '../../model/step.ts'
import { flow } from '../../platform/flow.ts'
import type { Clients } from './clients.ts'
import { type Connection, login } from './connection.ts'
import { judgedQuestion } from './explain.ts'

/** A server, and the programs to talk to it with. */
export interface Server {
  readonly connection: Connection
  readonly clients: Pick<Clients, 'client'>
}

/** One row, each value as text; NULL is the text NULL, so questions leave none. */
export type Row = readonly string[]

/**
 * Puts questions to a server by its own client program, all in one session, which reads the option files as the dumper does.
 * Gives the rows of each. Throws a Failure with a remedy for the first that fails.
 */
export async function ask(server: Server, questions: readonly string[], ctx: Context): Promise<Row[][]> {
  return await answers(clientProgram(server), questions, ctx)
}

/** The same, but what the server refuses is passed over, with an empty answer; gives what it said to those, too. */
export async function askEach(
  server: Server,
  questions: readonly string[],
  ctx: Context,
): Promise<{ readonly results: Row[][]; readonly errors: readonly Refusal[] }> {
  const program = clientProgram(server, ['--force'])
  const errors: Refusal[] = []
  const lines = linesOf([ourSession, ...questions.map(question => asked(question, ''))])
  const tolerant: Program = {
    ...program,
    onStderr(line) {
      const [, number, at, text = ''] = /^ERROR (\d+) \(\w+\) at line (\d+): (.*)/.exec(line) ?? []
      if (!number) return
      // A complaint about syntax repeats the statement, which may hold the hash of a password.
      const said = text.replace(/ near '.*/s, '')
      errors.push({ number: Number(number), said, question: lines.findLastIndex(n => n < Number(at)) })
    },
    judge: (exit, stderrTail) => (errors.length > 0 ? null : (program.judge?.(exit, stderrTail) ?? null)),
  }
  return { results: await answers(tolerant, questions, ctx), errors }
}

/** What a server said to a statement that it did not carry out. */
export interface Refusal {
  readonly number: number
  readonly said: string
  /** Which question it was. */
  readonly question: number
}

/** After how many lines each part of a script begins, without the first part. */
function linesOf(parts: readonly string[]): number[] {
  let lines = 0
  return parts.slice(0, -1).map(part => {
    lines += part.split('\n').length - 1
    return lines
  })
}

function asked(question: string, mark: string): string {
  return `${question};\nSELECT '${mark}';\n`
}

async function answers(program: Program, questions: readonly string[], ctx: Context): Promise<Row[][]> {
  const mark = `cairn ${randomBytes(6).toString('hex')}`
  const script = questions.map(question => asked(question, mark)).join('')
  const results: Row[][] = []
  let rows: Row[] = []
  for await (const line of readLines(flow(scriptBytes(script), [program], ctx))) {
    if (line === mark) {
      results.push(rows)
      rows = []
    } else rows.push(line.split('\t').map(unescaped))
  }
  if (results.length < questions.length) throw new Error('the server did not answer every question')
  return results
}

/** The client program as a filter: statements in, rows out. */
export function clientProgram(server: Server, more: readonly string[] = []): Program {
  const { args, ...rest } = login(server.connection)
  return {
    ...rest,
    program: server.clients.client,
    args: [
      ...args,
      '--batch',
      '--skip-column-names',
      '--unbuffered',
      // Nothing in what is read is a command of the client's own.
      '--binary-mode',
      '--skip-auto-rehash',
      '--default-character-set=utf8mb4',
      '--connect-timeout=30',
      '--local-infile=0',
      ...more,
    ],
    judge: judgedQuestion(server.connection),
  }
}

async function* scriptBytes(script: string): Bytes {
  yield Buffer.from(`${ourSession}${script}`)
}

/** No statement is ended for taking long. Each product passes over what is meant for the other. */
export const withoutTimeouts = `/*M!100101 SET SESSION max_statement_time = 0 */;
/*!50708 SET SESSION max_execution_time = 0 */;
`

/**
 * Whatever the server's defaults, or its init_connect, are: names are UTF-8, a count is of one moment, locks nothing, and what is
 * to be written may be; backslashes escape, "…" is a text, and no query is cut short or ended by a limit. What
 * limit, and what character set, the dumper would have is kept for who asks.
 */
const ourSession = `
SET @cairn_charset = @@SESSION.character_set_client;
SET NAMES utf8mb4;
SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE;
SET @cairn_select_limit = @@SESSION.sql_select_limit, SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', SESSION time_zone = '+00:00',
  SESSION group_concat_max_len = 1048576, SESSION sql_select_limit = 18446744073709551615;
${withoutTimeouts}`

async function* readLines(bytes: Bytes): AsyncGenerator<string, void, undefined> {
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of bytes) {
    const data = rest.length > 0 ? Buffer.concat([rest, chunk]) : Buffer.from(chunk)
    let from = 0
    for (let end = data.indexOf(10); end >= 0; end = data.indexOf(10, from)) {
      yield data.toString('utf8', from, end)
      from = end + 1
    }
    rest = data.subarray(from)
  }
  if (rest.length > 0) yield rest.toString('utf8')
}

const escapes: Readonly<Record<string, string>> = { n: '\n', t: '\t', '0': '\0', '\\': '\\' }

/** The client writes tabs, newlines, NULs and backslashes with a backslash (`--batch`). */
function unescaped(field: string): string {
  return field.replace(/\\([nt0\\])/g, (_, character: string) => escapes[character] ?? character)
}
