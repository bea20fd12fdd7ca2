// MariaDB and MySQL servers. Fast rather than durable: their data dies with the run.

import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type MariadbFacts, ServiceUnavailable } from './facts.ts'
import { type MariadbSeries, mariadbClients, mysqlClients, sid, trixie } from './places.ts'
import { freePorts, run, until } from './process.ts'
import type { Starting } from './registry.ts'

/** They refuse to run as root, and need nobody in particular. */
const nobody = '65534'

/** The scripts that make a MariaDB server's own tables, in their order (mariadb-install-db). */
const tables = ['system_tables', 'performance_tables', 'system_tables_data', 'sys_schema']

export async function startMariadb(start: Starting, series: MariadbSeries): Promise<MariadbFacts> {
  const facts = await factsFor(start, 'mariadb', series, join(mariadbClients, series, 'bin'))
  const share = series === '10.11' ? '/usr/share/mysql' : join(trixie.root, 'usr/share/mariadb')
  const prefix = series === '10.11' ? 'mysql' : 'mariadb'
  const scripts = [...tables.map(name => `${prefix}_${name}.sql`), 'maria_add_gis_sp_bootstrap.sql']
  const texts = await Promise.all(scripts.map(name => readFile(join(share, name), 'utf8')))
  const init = ['create database if not exists mysql;\nuse mysql;\n', ...texts].join('')
  const options = [`--lc-messages-dir=${share}`, `--character-sets-dir=${join(share, 'charsets')}`]
  if (series !== '10.11') options.push(`--plugin-dir=${join(trixie.root, 'usr/lib/mysql/plugin')}`)
  const file = join(start.dir, 'init.sql')
  const accounts = ['%', 'localhost'].flatMap(host => [
    `CREATE USER IF NOT EXISTS '${facts.user}'@'${host}' IDENTIFIED BY '${facts.password}';`,
    `GRANT ALL ON *.* TO '${facts.user}'@'${host}' WITH GRANT OPTION;`,
    `GRANT PROXY ON ''@'%' TO '${facts.user}'@'${host}' WITH GRANT OPTION;`,
  ])
  await writeFile(file, `DROP USER IF EXISTS ''@'localhost';\n${accounts.join('\n')}\n`)
  await initialize(start, facts, join(facts.bin, 'mariadbd'), init, [
    ...options,
    '--bootstrap',
    '--innodb-log-file-size=16M',
  ])
  return await serve(start, facts, 'mariadbd', [
    ...options,
    '--debug-no-sync',
    '--innodb-log-file-size=16M',
    `--init-file=${file}`,
  ])
}

export async function startMysql(start: Starting): Promise<MariadbFacts> {
  const facts = await factsFor(start, 'mysql', '9.7', join(mysqlClients, '9.7/bin'))
  const options = [
    `--basedir=${join(sid.root, 'usr')}`,
    `--lc-messages-dir=${join(sid.root, 'usr/share/mysql')}`,
    `--plugin-dir=${join(sid.root, 'usr/lib/mysql/plugin')}`,
    '--secure-file-priv=',
    '--mysqlx=OFF',
    '--disable-log-bin',
  ]
  const init = [
    `CREATE USER '${facts.user}'@'%' IDENTIFIED BY '${facts.password}';`,
    `GRANT ALL ON *.* TO '${facts.user}'@'%' WITH GRANT OPTION;`,
    `GRANT PROXY ON ''@'' TO '${facts.user}'@'%' WITH GRANT OPTION;`,
  ].join('\n')
  const file = join(start.dir, 'init.sql')
  await writeFile(file, init)
  await initialize(start, facts, join(facts.bin, 'mysqld'), '', [
    ...options,
    '--initialize-insecure',
    `--init-file=${file}`,
  ])
  return await serve(start, facts, 'mysqld', [...options, '--innodb-flush-method=nosync'])
}

async function factsFor(
  start: Starting,
  flavour: MariadbFacts['flavour'],
  series: string,
  bin: string,
): Promise<MariadbFacts> {
  if (!existsSync(join(bin, flavour === 'mysql' ? 'mysqld' : 'mariadbd')))
    throw new ServiceUnavailable(`no ${flavour} ${series} in ${bin}`)
  return {
    flavour,
    series,
    host: '127.0.0.1',
    port: await freePorts(),
    socket: join(start.dir, 'socket'),
    user: 'admin',
    password: randomBytes(12).toString('hex'),
    bin,
    data: join(start.dir, 'data'),
    pid: 0,
  }
}

/** Runs the server once over its new folder, with statements on its stdin. */
async function initialize(
  start: Starting,
  facts: MariadbFacts,
  server: string,
  statements: string,
  options: readonly string[],
): Promise<void> {
  await mkdir(join(facts.data, facts.flavour === 'mariadb' ? 'mysql' : ''), { recursive: true })
  const script = join(start.dir, 'bootstrap.sql')
  await writeFile(script, statements)
  const user = process.getuid?.() === 0 ? [`--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups'] : []
  if (user.length > 0) await run('chown', ['-R', `${nobody}:${nobody}`, start.dir])
  // A server that starts removes the temporary tables of others in its own folder for them.
  const args = ['--no-defaults', `--datadir=${facts.data}`, `--tmpdir=${start.dir}`, ...options]
  const command = 'exec "$@" <"$0" >"$0.log" 2>&1'
  await run('setpriv', [...user, '--', 'sh', '-c', command, script, server, ...args]).catch(async error => {
    const log = await readFile(`${script}.log`, 'utf8').catch(() => '')
    throw new Error(`${(error as Error).message}\n${log.split('\n').slice(-8).join('\n')}`)
  })
}

async function serve(
  start: Starting,
  facts: MariadbFacts,
  server: string,
  options: readonly string[],
): Promise<MariadbFacts> {
  const args = [
    '--no-defaults',
    `--datadir=${facts.data}`,
    `--socket=${facts.socket}`,
    `--port=${facts.port}`,
    `--pid-file=${join(start.dir, 'pid')}`,
    `--tmpdir=${facts.data}`,
    '--bind-address=127.0.0.1',
    '--skip-name-resolve',
    '--innodb-flush-log-at-trx-commit=0',
    '--innodb-buffer-pool-size=64M',
    '--event-scheduler=OFF',
    '--max-connections=200',
    ...options,
  ]
  const user = process.getuid?.() === 0 ? { user: nobody } : {}
  const daemon = start.daemon(join(facts.bin, server), args, { stopWith: 'SIGKILL', ...user })
  await until(`${facts.flavour} ${facts.series}`, 60, daemon, () => runSql(facts, 'SELECT 1'))
  return { ...facts, pid: daemon.pid }
}

/** Runs statements as the administrator and returns what they print: a line for a row, tabs between its values. */
export async function runSql(
  { flavour, bin, host, port, user, password }: Omit<MariadbFacts, 'pid'>,
  sql: string,
  database = '',
): Promise<string> {
  const args = [
    '--no-defaults',
    `--host=${host}`,
    `--port=${port}`,
    '--protocol=TCP',
    `--user=${user}`,
    '--batch',
    '--raw',
    '--skip-column-names',
    '--default-character-set=utf8mb4',
    '--binary-mode',
    `--execute=${sql}`,
    ...(database === '' ? [] : [database]),
  ]
  return await run(join(bin, flavour), args, { env: { MYSQL_PWD: password } })
}
