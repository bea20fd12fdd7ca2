import type { Variables } from './variables.ts'

export type Engine = 'postgres' | 'mariadb'

/** What only one of the two dump programs knows, and people say of it. */
const told: Readonly<Record<Engine, RegExp>> = {
  postgres: /^(-U|--(username|no-password|dbname|no-owner|no-privileges|no-acl|schema|format)(=|$))/,
  mariadb:
    /^(-u|--(user|databases|all-databases|socket|protocol|routines|events|triggers|single-transaction|no-defaults|quick|opt)(=|$)|--password=|--(skip|ssl|defaults)-)/,
}

/** The images for one engine set CAIRN_ENGINE; else the variables of its host tell, else the arguments, else its other variables. */
export function engineOf(env: Variables, args: readonly string[]): Engine {
  const said = env.parsed('CAIRN_ENGINE', '"postgres" or "mariadb"', text =>
    text === 'postgres' || text === 'mariadb' ? text : null,
  )
  if (said) return said
  const has = (...names: string[]): boolean => names.some(name => env.text(name) !== undefined)
  const says = (engine: Engine): boolean => args.some(arg => told[engine].test(arg))
  const signs = [
    [
      has('PGHOST', 'PGSERVICE', 'PGHOSTADDR'),
      has('MYSQL_HOST') || args.some(arg => arg.startsWith('--defaults-')),
    ],
    [says('postgres'), says('mariadb')],
    [false, has('MYSQL_PWD', 'MYSQL_PWD_FILE', 'MYSQL_TCP_PORT')],
  ] as const
  const [postgres, mariadb] = signs.find(([one, other]) => one || other) ?? [false, false]
  if (postgres === mariadb) {
    const found = postgres ? 'what is said to both' : null
    env.fault('CAIRN_ENGINE', '"postgres" or "mariadb" (or PGHOST, or MYSQL_HOST)', found)
  }
  return mariadb && !postgres ? 'mariadb' : 'postgres'
}
