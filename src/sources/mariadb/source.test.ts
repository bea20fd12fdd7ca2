// budget: 120 s
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import {
  type FreshSqlDatabase,
  freshSqlDatabase,
  mariadbClients,
  mysqlClients,
  orSkip,
  type SqlServer,
  sqlServers,
} from '../../../test/services/index.ts'
import { freePorts } from '../../../test/services/process.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { eventually } from '../../../test/support/eventually.ts'
import { testJob } from '../../../test/support/job.ts'
import { optionsOf, type SqlTarget, sql, urlOf } from '../../../test/support/mariadb/hostile.ts'
import { commandLinesOfOurs } from '../../../test/support/processes.ts'
import { backup } from '../../engine/backup.ts'
import { exitOf } from '../../engine/outcome.ts'
import type { Context } from '../../model/context.ts'
import type { Session } from '../../model/source.ts'
import { flow } from '../../platform/flow.ts'
import { secretSource } from '../../platform/secret-source.ts'
import { memoryStore } from '../../stores/memory.ts'
import { MariadbOptions, mariadbRestorer, mariadbSource } from './index.ts'

const nothing = { allow: new Set<string>() }

/** A database with some rows; the test is skipped where there is no server. */
async function filled(t: TestContext, which: SqlServer = '10.11'): Promise<FreshSqlDatabase | undefined> {
  const database = await orSkip(t, freshSqlDatabase(which))
  if (database)
    await sql(
      database,
      'CREATE TABLE t (n int PRIMARY KEY, s text); INSERT INTO t VALUES (1, "one"), (2, "two")',
    )
  return database
}

/** More rows than a dumper writes before anybody reads them. */
async function enlarge(database: FreshSqlDatabase): Promise<void> {
  const digits =
    '(SELECT 0 n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)'
  await sql(
    database,
    `INSERT INTO t SELECT 10 + a.n + 10 * b.n + 100 * c.n + 1000 * d.n, REPEAT('some text ', 100) FROM ${digits} a, ${digits} b, ${digits} c, ${digits} d`,
  )
}

function sourceOf(database: FreshSqlDatabase, more: Partial<MariadbOptions> = {}) {
  return mariadbSource(database.flavour, optionsOf(database, more))
}

async function opened(database: FreshSqlDatabase, ctx: Context, more: Partial<MariadbOptions> = {}) {
  return await sourceOf(database, more).open({ name: database.name }, null, 'counts', ctx)
}

async function drain(session: Session, ctx: Context, atFirst: () => unknown = () => {}): Promise<void> {
  let isFirst = true
  for await (const artifact of session.artifacts())
    for await (const _ of flow(artifact.open(ctx), artifact.through ?? [], ctx)) {
      if (isFirst) await atFirst()
      isFirst = false
    }
}

for (const which of ['10.11', 'mysql'] as const)
  test(`what keeps us from logging in to ${which} is said with its remedy`, async t => {
    const database = await filled(t, which)
    if (!database) return
    const { flavour, host, port, user, password, name } = database
    const here = `${host}:${port}`
    const other = flavour === 'mysql' ? 'mariadb' : 'mysql'
    const cases: [string, RegExp, RegExp][] = [
      [
        `${flavour}://${user}:falsch@${here}/${name}`,
        /cannot connect.*Access denied for user 'admin'/,
        /check user and password/,
      ],
      [
        `${flavour}://${user}:${password}@${host}:${await freePorts()}/${name}`,
        /cannot connect.*(2002|2003)/,
        /check that the server runs/,
      ],
      [`${flavour}://${user}:${password}@no-such-host.invalid/${name}`, /cannot connect/, /check/],
      [`${flavour}://${user}:${password}@${here}/nowhere`, /there is no database "nowhere"/, /there are/],
      [`${flavour}://${user}:${password}@${here}`, /no database was named/, /databases: all/],
    ]
    for (const [url, why, remedy] of cases) {
      const source = mariadbSource(flavour, MariadbOptions.parse({ url }))
      await assert.rejects(source.inspect(testContext()), (error: Error & { remedy?: string }) => {
        assert.match(error.message, why)
        assert.match(error.remedy ?? '', remedy)
        assert.ok(!`${error.message} ${error.remedy}`.includes(password))
        return true
      })
    }
    const wrong = mariadbSource(other, MariadbOptions.parse({ url: database.url }))
    await assert.rejects(wrong.inspect(testContext()), { remedy: new RegExp(`type: ${flavour}`) })
  })

for (const which of ['10.11', 'mysql'] as const)
  test(`a user of ${which} who may not see everything is told what to grant, and accounts that may not be read are recorded`, async t => {
    const database = await filled(t, which)
    if (!database) return
    const user = `u${randomBytes(4).toString('hex')}`
    await sql(
      database,
      `CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET @x = 1; CREATE USER ${user} IDENTIFIED BY 'x12345';
       GRANT SELECT, SHOW VIEW, EVENT ON ${database.name}.* TO ${user}`,
    )
    const limited = { ...database, user, password: 'x12345' }
    const ctx = testContext()
    await assert.rejects(sourceOf(limited).inspect(ctx), {
      message: /the user has not all that a whole dump takes: TRIGGER on/,
      remedy: /GRANT TRIGGER ON `db_.*`\.\* TO the user/,
    })
    await sql(database, `GRANT TRIGGER ON ${database.name}.* TO ${user}`)
    // Who may list the accounts may not see what they may do, yet.
    await sql(database, `GRANT SELECT ON mysql.user TO ${user}`)
    assert.equal((await capture(sourceOf(limited), ctx)).manifest.source.options.globals, 'missing')
    await sql(database, `REVOKE SELECT ON mysql.user FROM ${user}`)
    const { manifest, bytes } = await capture(sourceOf(limited), ctx)
    assert.equal(manifest.source.options.globals, 'missing')
    assert.match(
      manifest.warnings.map(({ what }) => what).join(),
      /users and their privileges are not saved.*GRANT SELECT ON mysql/,
    )
    assert.deepEqual([...bytes.keys()], [`${database.flavour}/${database.name}.sql`])
    assert.match(
      Buffer.from(bytes.get(`${database.flavour}/${database.name}.sql`) ?? []).toString(),
      /TRIGGER/i,
    )
  })

for (const which of sqlServers)
  test(`beside writers, the dump of ${which} shows one moment`, async t => {
    const from = await orSkip(t, freshSqlDatabase(which))
    if (!from) return
    const values = Array.from({ length: 3000 }, (_, n) => `(${n}, 1000, REPEAT('x', 500))`).join(', ')
    await sql(
      from,
      `CREATE TABLE account (id int PRIMARY KEY, amount int, filler text); INSERT INTO account VALUES ${values}; CREATE TABLE zz_journal (id int AUTO_INCREMENT PRIMARY KEY, a int)`,
    )
    let isOver = false
    const writers = [1, 2].map(async () => {
      while (!isOver)
        await sql(
          from,
          Array.from({ length: 50 }, () => {
            const [a, b] = [Math.floor(Math.random() * 3000), Math.floor(Math.random() * 3000)]
            return `START TRANSACTION; UPDATE account SET amount = amount - 1 WHERE id = ${a}; UPDATE account SET amount = amount + 1 WHERE id = ${b}; INSERT INTO zz_journal (a) VALUES (${a}); COMMIT`
          }).join('; '),
        ).catch(() => {})
    })
    t.after(() => {
      isOver = true
    })
    const rows = async (target: SqlTarget) => Number(await sql(target, 'SELECT COUNT(*) FROM zz_journal'))
    await eventually('somebody writes', async () => (await rows(from)) > 0)
    const ctx = testContext()
    const { manifest, reader } = await capture(sourceOf(from), ctx, { census: 'none' })
    const then = await rows(from)
    await eventually('they went on', async () => (await rows(from)) > then)
    isOver = true
    await Promise.all(writers)
    const to = { ...from, name: `${from.name}_copy` }
    await mariadbRestorer(from.flavour, { target: urlOf(from, to.name) }).apply(
      [manifest],
      nothing,
      false,
      reader,
      ctx,
    )
    assert.equal((await sql(to, 'SELECT SUM(amount) FROM account')).trim(), '3000000')
    const [restored, all] = [await rows(to), await rows(from)]
    assert.ok(restored > 0 && restored < all, `${restored} of ${all}`)
  })

test('a table that is altered while it is dumped fails the backup; other changes are warnings', async t => {
  const database = await filled(t)
  if (!database) return
  await enlarge(database)
  await sql(database, 'CREATE TABLE zz_old (id int) ENGINE = MyISAM; CREATE TABLE aa_small (id int)')
  const ctx = testContext()
  {
    await using session = await opened(database, ctx)
    await drain(session, ctx, () =>
      sql(
        database,
        'INSERT INTO zz_old VALUES (1); CREATE TABLE late (id int); CREATE VIEW v AS SELECT 1 AS x',
      ),
    )
    const { warnings, capturedAt, consistentAt } = await session.finish()
    const said = warnings.map(({ what }) => what).join('\n')
    assert.match(said, /were written to while they were dumped: zz_old/)
    assert.match(said, /were made while the dump ran.*late/)
    assert.match(said, /were redefined while the dump ran: view v/)
    assert.ok(consistentAt > capturedAt)
  }
  await using session = await opened(database, ctx)
  await drain(session, ctx, () => sql(database, 'ALTER TABLE aa_small ADD COLUMN more int'))
  await assert.rejects(session.finish(), { message: /were altered: aa_small/, remedy: /migration/ })
})

test('a dumper that is killed, or fails after writing, fails the stream', async t => {
  const database = await filled(t)
  if (!database) return
  await enlarge(database)
  const ctx = testContext()
  await using session = await opened(database, ctx)
  await assert.rejects(
    drain(session, ctx, () => {
      for (const pid of children('mariadb-dump')) process.kill(pid, 'SIGKILL')
    }),
    /mariadb-dump failed: killed by SIGKILL/,
  )
  const folder = mkdtempSync(join(tmpdir(), 'clients-'))
  t.after(() => rmSync(folder, { recursive: true }))
  program(folder, 'mariadb', `exec ${database.bin}/mariadb "$@"`)
  program(
    folder,
    'mariadb-dump',
    '[ "$1" = --version ] && echo "mariadb-dump from 10.11.99-MariaDB" && exit; case "$*" in *--print-defaults) exit 0;; esac; echo "-- MariaDB dump"; echo "mariadb-dump: Error 1412: Table definition has changed, please retry transaction when dumping table \\`t\\` at row: 0" >&2; exit 3',
  )
  await using other = await opened(database, ctx, { clients: folder })
  await assert.rejects(drain(other, ctx), { message: /Error 1412/, remedy: /migration/ })
  // Also where the accounts would follow it.
  const source = sourceOf(database, { clients: folder, whole: true, globals: 'inside' })
  await using whole = await source.open({ name: 'all' }, null, 'none', ctx)
  await assert.rejects(drain(whole, ctx), { message: /Error 1412/, remedy: /migration/ })
})

test("programs are those of the server's product and at least its version", async t => {
  const mysql = await filled(t, 'mysql')
  const newer = await filled(t, '11.8')
  if (!mysql || !newer) return
  const ctx = testContext()
  const folder = mkdtempSync(join(tmpdir(), 'clients-'))
  t.after(() => rmSync(folder, { recursive: true }))
  // What Debian's MariaDB installs under MySQL's names.
  program(folder, 'mysql', 'exec mariadb "$@"')
  program(folder, 'mysqldump', 'exec mariadb-dump "$@"')
  await assert.rejects(sourceOf(mysql, { clients: folder }).inspect(ctx), {
    exit: 2,
    message: /mysqldump is not MySQL's/,
    remedy: /CAIRN_MYSQL_CLIENTS/,
  })
  await assert.rejects(sourceOf(newer, { clients: join(mariadbClients, '10.11') }).inspect(ctx), {
    exit: 2,
    message: /client programs of MariaDB 11.8 or newer, and there are only those of 10.11/,
  })
  const { facts } = await capture(sourceOf(mysql, { clients: mysqlClients }), ctx)
  assert.match(facts.client, /^mysqldump 9\./)
})

test('one database of several that is missing fails alone; all leaves the own ones of the server out', async t => {
  const one = await filled(t)
  const two = await filled(t)
  if (!one || !two) return
  const ctx = testContext()
  const source = sourceOf(one, { databases: [one.name, 'nowhere', two.name] })
  const { units } = await source.inspect(ctx)
  assert.equal(new Set(units.map(unit => unit.identity)).size, 3)
  assert.match(units[0]?.identity ?? '', /^mariadb:[^/]{10,}\/db_/)
  const outcomes = await backup(testJob(source, [memoryStore('one')]), 'host', ctx)
  assert.deepEqual(
    outcomes.map(({ unit, manifest }) => [unit, manifest !== null]),
    [
      [one.name, true],
      ['nowhere', false],
      [two.name, true],
    ],
  )
  assert.equal(exitOf(outcomes), 3)
  const all = await sourceOf(one, { databases: 'all', exclude: [two.name] }).inspect(ctx)
  const names = all.units.map(unit => unit.name)
  assert.ok(names.includes(one.name) && !names.includes(two.name))
  assert.ok(!names.some(name => ['mysql', 'sys', 'information_schema', 'performance_schema'].includes(name)))
})

for (const which of ['11.8', 'mysql'] as const)
  test(`no password stands in the arguments of any program, by option, URL or option file, for ${which}`, async t => {
    const database = await filled(t, which)
    if (!database) return
    const ctx = testContext()
    // Everything that an option file could take for its own.
    const evil = `p\\w"#'x; s\\n=[é]`
    const user = `u${randomBytes(4).toString('hex')}`
    await sql(
      database,
      `CREATE USER ${user} IDENTIFIED BY '${evil.replaceAll('\\', '\\\\').replaceAll("'", "''")}'; GRANT ALL ON *.* TO ${user} WITH GRANT OPTION`,
    )
    const seen = new Set<string>()
    const looking = setInterval(() => {
      for (const line of commandLinesOfOurs()) seen.add(line)
    }, 4)
    t.after(() => clearInterval(looking))
    const { host, port, name, flavour } = database
    const folder = mkdtempSync(join(tmpdir(), 'option-files-'))
    t.after(() => rmSync(folder, { recursive: true }))
    const file = join(folder, 'my.cnf')
    writeFileSync(file, `[client]\nhost=${host}\nport=${port}\nprotocol=TCP\n[clientgroup]\nuser=${user}\n`, {
      mode: 0o600,
    })
    const password = { value: evil }
    const forms = [
      { host, port, user, password, database: name },
      { url: `${flavour}://${user}:${encodeURIComponent(evil)}@${host}:${port}/${name}` },
      { defaultsFile: file, user, password, database: name },
      { defaultsExtraFile: file, defaultsGroupSuffix: 'group', password, database: name },
    ]
    const dumper = flavour === 'mysql' ? 'mysqldump' : 'mariadb-dump'
    const ways = [`${dumper}\0--defaults-extra-file=/dev/fd/3`, `${dumper}\0--defaults-file=${file}`]
    const unseen = () => ways.filter(way => ![...seen].some(line => line.includes(way)))
    const lookAt = async (form: (typeof forms)[number]): Promise<void> => {
      const { manifest, reader } = await capture(mariadbSource(flavour, MariadbOptions.parse(form)), ctx, {
        census: 'none',
      })
      assert.ok(!JSON.stringify(manifest).includes(JSON.stringify(evil).slice(1, -1)))
      if (form !== forms[1]) return
      const target = secretSource(
        `${flavour}://${user}:${encodeURIComponent(evil)}@${host}:${port}/${name}_copy`,
      )
      await mariadbRestorer(flavour, { target }).apply([manifest], nothing, false, reader, ctx)
    }
    for (const form of forms) await lookAt(form)
    // A busy machine may keep us from looking while a program ran; not every time.
    for (let round = 0; round < 20 && unseen().length > 0; round++)
      for (const form of [forms[0], forms[2]]) if (form) await lookAt(form)
    assert.deepEqual(unseen(), [])
    for (const line of seen) assert.ok(!line.includes(evil), line)
  })

test('TLS is demanded and checked as the options say, and the socket works', async t => {
  const mysql = await filled(t, 'mysql')
  const mariadb = await filled(t, '10.11')
  if (!mysql || !mariadb) return
  const ctx = testContext()
  const ca = join(mysql.data, 'ca.pem')
  assert.equal((await sourceOf(mysql, { ssl: { mode: 'verify-ca', ca } }).inspect(ctx)).units.length, 1)
  const wrong = join(mysql.data, 'client-cert.pem')
  await assert.rejects(sourceOf(mysql, { ssl: { mode: 'verify-ca', ca: wrong } }).inspect(ctx), {
    remedy: /ssl options/,
  })
  await assert.rejects(sourceOf(mariadb, { ssl: { mode: 'required' } }).inspect(ctx), {
    remedy: /ssl options/,
  })
  for (const { flavour, socket, user, password, name } of [mysql, mariadb]) {
    const source = mariadbSource(flavour, MariadbOptions.parse({ socket, user, password, database: name }))
    assert.equal((await source.inspect(ctx)).units[0]?.name, name)
  }
})

test('a lock that the dump waits for is named, and the dump stalls', async t => {
  const database = await filled(t)
  if (!database) return
  const ctx = testContext({ stallMs: 6_000 })
  const source = sourceOf(database)
  const hold = `LOCK TABLES t WRITE; SELECT SLEEP(60) AS of_${database.name}`
  const holding = sql(database, hold).catch(() => {})
  let id = ''
  await eventually('the lock is held', async () => {
    const query = `SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP(60) AS of_${database.name}'`
    id = (await sql({ ...database, name: '' }, query)).trim()
    return id !== ''
  })
  await using session = await source.open({ name: database.name }, null, 'none', ctx)
  const draining = drain(session, ctx)
  draining.catch(() => {})
  await eventually('what is waited for is told', async () =>
    /waiting for table metadata lock/.test((await source.whySilent?.(ctx)) ?? ''),
  )
  await assert.rejects(draining, /mariadb-dump has stalled/)
  await sql({ ...database, name: '' }, `KILL ${id}`)
  await holding
})

function program(folder: string, name: string, text: string): void {
  writeFileSync(join(folder, name), `#!/bin/sh\n${text}\n`)
  chmodSync(join(folder, name), 0o755)
}

/** Our own children of that name. */
function children(name: string): number[] {
  return readdirSync('/proc')
    .filter(pid => /^\d+$/.test(pid))
    .map(Number)
    .filter(pid => {
      const parent = /^PPid:\s*(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1]
      return Number(parent) === process.pid && read(`/proc/${pid}/comm`).trim() === name
    })
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
