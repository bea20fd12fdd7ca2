// budget: 240 s
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type TestContext, test } from 'node:test'
import {
  type FreshSqlDatabase,
  freshSqlDatabase,
  freshSqlServer,
  orSkip,
  type SqlServer,
} from '../../../test/services/index.ts'
import { type Captured, capture, recordOf } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import {
  contents,
  databases,
  optionsOf,
  type SqlTarget,
  sql,
  urlOf,
} from '../../../test/support/mariadb/hostile.ts'
import { inChunks, readerOver } from '../../../test/support/reader.ts'
import type { Context } from '../../model/context.ts'
import { censusName } from '../../model/manifest.ts'
import { Secret } from '../../model/secret.ts'
import type { Bytes } from '../../model/step.ts'
import { mariadbRestorer, mariadbSource } from './index.ts'

const nothing = { allow: new Set<string>() }
const only = (...names: string[]) => ({ only: names, allow: new Set<string>() })

const shop = `
CREATE TABLE parent (id int PRIMARY KEY, name text);
CREATE TABLE child (id int PRIMARY KEY, parent int, FOREIGN KEY (parent) REFERENCES parent (id));
CREATE TABLE big (id int PRIMARY KEY, body longtext);
INSERT INTO parent VALUES (1, 'it''s; one'), (2, 'two');
INSERT INTO child VALUES (1, 1), (2, 2);
INSERT INTO big VALUES (1, REPEAT('a;''b\\n', 60000));
CREATE VIEW seen AS SELECT * FROM parent;
CREATE TRIGGER stamp BEFORE INSERT ON child FOR EACH ROW SET NEW.parent = NEW.parent;
CREATE FUNCTION one() RETURNS int DETERMINISTIC RETURN 1;
`

async function backedUp(t: TestContext, which: SqlServer, statements = shop) {
  const from = await orSkip(t, freshSqlDatabase(which))
  if (!from) return undefined
  await sql(from, statements)
  const ctx = testContext()
  const captured = await capture(mariadbSource(from.flavour, optionsOf(from)), ctx)
  return { from, captured, ctx, restorer: (name: string) => restorerOf(from, name) }
}

function restorerOf(server: SqlTarget, name: string) {
  return mariadbRestorer(server.flavour, { target: urlOf(server, name) })
}

/** A backup that holds its census, as the engine writes it, and the names of the artifacts that are read of it. */
async function withCensus(from: FreshSqlDatabase, ctx: Context) {
  const captured = await capture(mariadbSource(from.flavour, optionsOf(from)), ctx)
  const census = { name: censusName, media: 'json', role: 'census' } as const
  const body = Buffer.from(JSON.stringify({ cairn: 1, ...captured.census }))
  const artifacts = [...captured.manifest.artifacts, recordOf(census, body)]
  const read: string[] = []
  const kept = [...captured.bytes, [censusName, body] as const].map(
    ([name, bytes]): [string, () => Bytes] => [
      name,
      () => {
        read.push(name)
        return inChunks(bytes)
      },
    ],
  )
  return { manifest: { ...captured.manifest, artifacts }, reader: readerOver(new Map(kept), ctx), read }
}

/** The backup, as a reader that changes its data on the way. */
function changed({ bytes }: Captured, change: (bytes: Uint8Array) => Bytes, ctx: Context) {
  const all = [...bytes].map(([name, whole]): [string, () => Bytes] => [
    name,
    () => (name.endsWith('globals.sql') ? inChunks(whole) : change(whole)),
  ])
  return readerOver(new Map(all), ctx)
}

for (const which of ['10.11', 'mysql'] as const)
  test(`a dump of ${which} that is cut or damaged anywhere leaves the target as it was`, async t => {
    const made = await backedUp(t, which)
    if (!made) return
    const { from, captured, ctx } = made
    const size = captured.bytes.get(`${from.flavour}/${from.name}.sql`)?.length ?? 0
    const used: FreshSqlDatabase = { ...from, name: `${from.name}_used` }
    await made.restorer(used.name).apply([captured.manifest], nothing, false, captured.reader, ctx)
    await sql(used, `INSERT INTO parent VALUES (3, 'mine')`)
    const before = await contents(used)
    const there = await databases(from)
    const failing = async function* (bytes: Uint8Array, at: number): Bytes {
      yield* inChunks(bytes.subarray(0, at))
      throw new Error('damaged')
    }
    // The whole of it but its end, too: nothing is moved in before the store has vouched for all.
    const places = which === 'mysql' ? [700, size] : [0, 1, 700, Math.floor(size / 2), size - 40, size]
    for (const at of places)
      for (const [name, replace] of [
        [used.name, true],
        [`${from.name}_new`, false],
      ] as const) {
        const reader = changed(captured, bytes => failing(bytes, at), ctx)
        await assert.rejects(
          made.restorer(name).apply([captured.manifest], nothing, replace, reader, ctx),
          /damaged/,
        )
      }
    for (const at of which === 'mysql' ? [size - 60] : [0, 1, 700, Math.floor(size / 2), size - 60]) {
      const reader = changed(captured, bytes => inChunks(bytes.subarray(0, at)), ctx)
      await assert.rejects(made.restorer(used.name).apply([captured.manifest], nothing, true, reader, ctx), {
        exit: 20,
        message: /ends within a statement|last line|no statement/,
      })
    }
    assert.deepEqual(await contents(used), before)
    assert.deepEqual(await databases(from), there)
  })

for (const which of ['11.8', 'mysql'] as const)
  test(`a definition that ${which} refuses in the end is undone, and what was there is there again`, async t => {
    const made = await backedUp(t, which)
    if (!made) return
    const { from, captured, ctx } = made
    const before = await contents(from)
    const there = await databases(from)
    const spoiled = (bytes: Uint8Array): Bytes =>
      inChunks(
        Buffer.from(
          Buffer.from(bytes)
            .toString('latin1')
            .replace(/\bfrom `parent`/g, 'from `nowhere_`'),
          'latin1',
        ),
      )
    const reader = changed(captured, spoiled, ctx)
    const failed = { message: /made the definitions, failed: ERROR 1146/ }
    await assert.rejects(
      made.restorer(from.name).apply([captured.manifest], nothing, true, reader, ctx),
      failed,
    )
    assert.deepEqual(await contents(from), before)
    await assert.rejects(
      made.restorer(`${from.name}_new`).apply([captured.manifest], nothing, false, reader, ctx),
      failed,
    )
    assert.deepEqual(await databases(from), there)
  })

test('a move that fails at its beginning leaves what is there, triggers too', async t => {
  const made = await backedUp(t, '10.11')
  if (!made) return
  const { from, captured, ctx } = made
  const user = `u${randomBytes(4).toString('hex')}`
  const pattern = from.name.replaceAll('_', '\\_')
  // It may do everything but make the database in which what is replaced would be kept.
  await sql(
    from,
    `CREATE USER ${user} IDENTIFIED BY 'x12345'; GRANT ALL ON \`${pattern}\`.* TO ${user}; GRANT ALL ON \`${pattern}\\_cairn\\_restore%\`.* TO ${user}; GRANT SELECT ON mysql.* TO ${user}; INSERT INTO parent VALUES (7, 'mine')`,
  )
  const before = await contents(from)
  const limited = restorerOf({ ...from, user, password: 'x12345' }, from.name)
  await assert.rejects(limited.plan([captured.manifest], nothing, ctx), { remedy: /GRANT SET USER/ })
  await sql(from, `GRANT SET USER ON *.* TO ${user}`)
  await assert.rejects(limited.apply([captured.manifest], only(from.name), true, captured.reader, ctx), {
    message: /Access denied.*_cairn_before_/,
  })
  assert.deepEqual(await contents(from), before)
  assert.deepEqual(
    (await databases(from)).filter(name => name.startsWith(`${from.name}_cairn`)),
    [],
  )
})

for (const which of ['10.11', 'mysql'] as const)
  test(`one table of ${which} comes back with its triggers, and nothing else is touched`, async t => {
    const made = await backedUp(t, which)
    if (!made) return
    const { from, captured, ctx, restorer } = made
    const before = await contents(from)
    await sql(
      from,
      `UPDATE child SET parent = 1; DELETE FROM big; UPDATE parent SET name = 'changed' WHERE id = 2`,
    )
    const plan = await restorer(from.name).plan([captured.manifest], only('child'), ctx)
    assert.deepEqual(plan.replaces, [`table ${from.name}.child`])
    await restorer(from.name).apply([captured.manifest], only('child'), true, captured.reader, ctx)
    const after = await contents(from)
    assert.deepEqual([after.child, after.others], [before.child, before.others])
    assert.notDeepEqual([after.parent, after.big], [before.parent, before.big])
    await assert.rejects(sql(from, 'INSERT INTO child VALUES (9, 99)'), /foreign key/)

    // Beside, to be looked at first; a table that others refer to cannot be replaced under them.
    const beside = `${from.name}_side`
    await restorer(beside).apply(
      [captured.manifest],
      only(`${from.name}.big`, 'parent'),
      false,
      captured.reader,
      ctx,
    )
    const side = await contents({ ...from, name: beside })
    assert.deepEqual(Object.keys(side).sort(), ['big', 'others', 'parent'])
    assert.deepEqual([side.big, side.parent], [before.big, before.parent])
    await assert.rejects(restorer(from.name).plan([captured.manifest], only('parent'), ctx), {
      message: /child has a foreign key to parent/,
      remedy: /copy the rows/,
    })
    const fails = (name: string) =>
      restorer(`${from.name}_x`).apply([captured.manifest], only(name), false, captured.reader, ctx)
    await assert.rejects(fails('nowhere'), /no such table/)
    await assert.rejects(fails('seen'), /it is a view/)
    assert.ok(!(await databases(from)).includes(`${from.name}_x`))

    // With its census the backup knows its names before anything is read of its data, and made.
    await sql(
      from,
      `CREATE TABLE \`odd \`\`name\` (id int);${which === 'mysql' ? '' : ' CREATE SEQUENCE numbers'}`,
    )
    const known = await withCensus(from, ctx)
    const refused = async (name: string, expected: { message: RegExp; remedy?: RegExp }) => {
      const apply = restorer(`${from.name}_x`).apply([known.manifest], only(name), false, known.reader, ctx)
      await assert.rejects(apply, { exit: 2, ...expected })
      assert.equal(known.read.includes(`${from.flavour}/${from.name}.sql`), false)
    }
    await refused('childd', { message: /no such table/, remedy: /did you mean child\?/ })
    await refused('nowhere', { message: /no such table/, remedy: /it has .*child/ })
    await refused('seen', { message: /it is a view/ })
    const those = ['odd `name', ...(which === 'mysql' ? ['big'] : ['numbers'])]
    await restorer(`${from.name}_x`).apply([known.manifest], only(...those), false, known.reader, ctx)
    assert.ok((await databases(from)).includes(`${from.name}_x`))
  })

for (const which of ['11.8', 'mysql'] as const)
  test(`a whole server of ${which} comes back on another: databases, what binds them, accounts`, async t => {
    const server = await orSkip(t, freshSqlServer(which))
    const other = await orSkip(t, freshSqlServer(which))
    if (!server || !other) return
    const from = { ...server, name: '' }
    const to = { ...other, name: '' }
    await sql(
      from,
      `CREATE DATABASE one CHARACTER SET latin1; CREATE DATABASE \`two \`\`2\`; CREATE DATABASE left_out;
       USE one; ${shop} USE \`two \`\`2\`; CREATE TABLE t (id int PRIMARY KEY, p int, FOREIGN KEY (p) REFERENCES one.parent (id));
       INSERT INTO t VALUES (1, 1); CREATE VIEW across AS SELECT name FROM one.parent;
       CREATE ROLE clerk; GRANT SELECT ON one.* TO clerk; CREATE USER fred@localhost IDENTIFIED BY 'it''s'; GRANT clerk TO fred@localhost;
       SET DEFAULT ROLE clerk ${which === 'mysql' ? 'TO' : 'FOR'} fred@localhost; GRANT INSERT (id), UPDATE ON one.child TO fred@localhost;
       GRANT EXECUTE ON FUNCTION one.one TO fred@localhost`,
    )
    const ctx = testContext()
    const source = mariadbSource(from.flavour, optionsOf(from, { whole: true, exclude: ['left_out'] }))
    assert.deepEqual(
      (await source.inspect(ctx)).units.map(unit => unit.name),
      ['all'],
    )
    const { manifest, reader } = await capture(source, ctx)
    const { flavour, host, port, user, password } = to
    const url = `${flavour}://${user}:${password}@${host}:${port}`
    const restorer = mariadbRestorer(flavour, {
      target: { where: '', read: async () => new Secret(url), toJSON: () => '' },
    })

    // One table of one database first, from the dump of all, under another name.
    const one = mariadbRestorer(flavour, { target: urlOf(to, 'beside') })
    await one.apply([manifest], only('one.parent'), false, reader, ctx)
    assert.equal((await sql({ ...to, name: 'beside' }, 'SELECT COUNT(*) FROM parent')).trim(), '2')
    assert.deepEqual(await databases(to), ['beside'])
    await assert.rejects(restorerOf(to, 'new').plan([manifest], nothing, ctx), /the backup holds several/)

    const report = await restorer.apply([manifest], nothing, false, reader, ctx)
    assert.deepEqual(report.warnings, [])
    assert.deepEqual((await databases(to)).sort(), ['beside', 'one', 'two `2'])
    for (const name of ['one', 'two `2'])
      assert.deepEqual(await contents({ ...to, name }), await contents({ ...from, name }))
    const accounts = (server: SqlTarget) =>
      sql(server, `SHOW CREATE USER fred@localhost; SHOW GRANTS FOR fred@localhost; SHOW GRANTS FOR clerk`)
    assert.deepEqual(await accounts(to), await accounts(from))

    // Again, over what is there by now: accounts stay as they are.
    await sql(
      to,
      `DROP USER IF EXISTS fred@localhost; CREATE USER fred@localhost; DELETE FROM \`two \`\`2\`.t`,
    )
    await assert.rejects(restorer.plan([manifest], only('one'), ctx), /has a foreign key to parent/)
    await restorer.apply([manifest], only('two `2'), true, reader, ctx)
    assert.deepEqual(await contents({ ...to, name: 'two `2' }), await contents({ ...from, name: 'two `2' }))
    assert.doesNotMatch(await sql(to, 'SHOW GRANTS FOR fred@localhost'), /UPDATE/)
  })

test('what is restored onto a server of the other product, or of an older kind, is refused or said', async t => {
  const made = await backedUp(t, '10.11', 'CREATE TABLE t (id int)')
  const mysql = await orSkip(t, freshSqlDatabase('mysql'))
  if (!made || !mysql) return
  const { captured, ctx } = made
  const wrong = mariadbRestorer('mariadb', { target: urlOf({ ...mysql, flavour: 'mariadb' }, 'x') })
  await assert.rejects(
    wrong.plan([captured.manifest], nothing, ctx),
    /the server is MySQL, not MariaDB|cannot connect/,
  )
  await assert.rejects(
    restorerOf(mysql, 'x').plan([captured.manifest], nothing, ctx),
    /not a backup of MySQL/,
  )
  const options = { ...captured.manifest.source.options, maxAllowedPacket: 2 ** 30 }
  const bigger = { ...captured.manifest, source: { ...captured.manifest.source, options } }
  const plan = await made.restorer(`x${randomBytes(3).toString('hex')}`).plan([bigger], nothing, ctx)
  assert.match(plan.warnings.join(), /max_allowed_packet/)
})
