import type { Context } from '../../model/context.ts'
import { usage } from '../../model/failure.ts'
import type { Program } from '../../model/step.ts'
import { flow } from '../../platform/flow.ts'
import { breakingOption } from './arguments.ts'
import type { Clients } from './clients.ts'
import { type Connection, login, showConnection } from './connection.ts'

/**
 * What the option files tell the dumper beside our arguments, as its own list says. Throws a usage Failure for what would lead
 * the dump away from us, or break it.
 */
export async function toldByFiles(connection: Connection, clients: Clients, ctx: Context): Promise<string[]> {
  const { args, ...rest } = login(connection)
  const files = args.filter(arg => arg.startsWith('--defaults-'))
  const program: Program = { ...rest, program: clients.dumper, args: [...files, '--print-defaults'] }
  let said = ''
  for await (const chunk of flow(program, [], ctx)) said += Buffer.from(chunk)
  // The first line says that a list follows.
  const options = said.slice(said.indexOf('\n')).split(/\s+/)
  const found = breakingOption(options)
  if (found === undefined) return options
  throw usage(
    `cannot dump from ${showConnection(connection)}`,
    `an option file tells the dump program ${found}: the dump would go elsewhere, or could not be restored`,
    `take it out of the file, or name another one: defaultsFile (\`mariadb-dump --print-defaults\` shows what is read)`,
  )
}
