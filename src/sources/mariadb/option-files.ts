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
  const options = await printed(connection, clients.dumper, ctx)
  const found = breakingOption(options)
  if (found === undefined) return options
  throw usage(
    `cannot dump from ${showConnection(connection)}`,
    `an option file tells the dump program ${found}: the dump would go elsewhere, or could not be restored`,
    `take it out of the file, or name another one: defaultsFile (\`mariadb-dump --print-defaults\` shows what is read)`,
  )
}

/**
 * The connection with its fallback host, where neither it nor an option file names a host. Debian's own option file names a
 * socket, which says nothing.
 */
export async function placed(connection: Connection, clients: Clients, ctx: Context): Promise<Connection> {
  const { host, socket, fallbackHost } = connection
  if (fallbackHost === undefined || host !== undefined || socket !== undefined) return connection
  const options = await printed(connection, clients.client, ctx)
  const isNamed = options.some(option => option.startsWith('--host='))
  return isNamed ? connection : { ...connection, host: fallbackHost }
}

/** What a program reads in the option files, as it lists it itself. */
async function printed(connection: Connection, path: string, ctx: Context): Promise<string[]> {
  const { args, ...rest } = login(connection)
  const files = args.filter(arg => arg.startsWith('--defaults-'))
  const program: Program = { ...rest, program: path, args: [...files, '--print-defaults'] }
  let said = ''
  for await (const chunk of flow(program, [], ctx)) said += Buffer.from(chunk)
  // The first line says that a list follows.
  return said.slice(said.indexOf('\n')).split(/\s+/)
}
