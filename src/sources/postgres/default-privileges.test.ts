import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { freshDatabase, orSkip } from '../../../test/services/index.ts'
import { capture } from '../../../test/support/capture.ts'
import { testContext } from '../../../test/support/context.ts'
import { optionsOf, sql, type Target, urlOf } from '../../../test/support/postgres/hostile.ts'
import type { RestoreOptions } from '../../model/restore.ts'
import { postgresRestorer, postgresSource } from './index.ts'

/** The privileges of all that a database holds, null being the built-in ones, and what new things get. */
async function privileges(target: Target): Promise<Record<string, string | null>> {
  const rows = await sql<{ name: string; acl: string | null }>(
    target,
    `SELECT relname AS name, relacl::text AS acl FROM pg_class WHERE relnamespace IN (to_regnamespace('app'), 'public'::regnamespace)
     UNION ALL SELECT proname, proacl::text FROM pg_proc WHERE pronamespace = to_regnamespace('app')
     UNION ALL SELECT typname, typacl::text FROM pg_type WHERE typtype = 'e' AND typnamespace = to_regnamespace('app')
     UNION ALL SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname = 'app'
     UNION ALL SELECT concat_ws(' ', defaclrole::regrole, 'makes', defaclobjtype, nspname), defaclacl::text
                 FROM pg_default_acl LEFT JOIN pg_namespace n ON n.oid = defaclnamespace`,
  )
  return Object.fromEntries(rows.map(({ name, acl }) => [name, acl]))
}

/** Of these, what new things get. */
function defaultsIn(found: Record<string, string | null>): Record<string, string | null> {
  return Object.fromEntries(Object.entries(found).filter(([name]) => name.includes(' makes ')))
}

test('what is made anew has the privileges of the backup, whatever the target gives by default', async t => {
  const made = await orSkip(t, Promise.all([freshDatabase(15), freshDatabase(15)]))
  if (!made) return
  const [from, to] = made
  const [reader, odd] = [`role_${randomBytes(4).toString('hex')}`, `O'dd "$cairn$ \\ ${from.name}`]
  const quoted = `"${odd.replaceAll('"', '""')}"`
  await sql(
    from,
    `CREATE ROLE ${reader}; CREATE ROLE ${quoted} SUPERUSER`,
    `CREATE SCHEMA app; CREATE TABLE app.plain (id serial); CREATE TABLE app.granted (id int)`,
    `GRANT INSERT ON app.granted TO ${reader}; CREATE TYPE app.mood AS ENUM ('good')`,
    `CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TABLE other (id int)`,
    `ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO ${reader}`,
  )
  const ctx = testContext()
  const backup = await capture(postgresSource(optionsOf(from)), ctx)
  const restore = async (options: RestoreOptions, only?: string[]) => {
    const pick = { allow: new Set<string>(), options, ...(only ? { only } : {}) }
    await postgresRestorer({ target: urlOf(to, to.name) }).apply(
      [backup.manifest],
      pick,
      true,
      backup.reader,
      ctx,
    )
  }
  for (const role of ['postgres', quoted])
    await sql(
      to,
      ...[
        `GRANT SELECT, UPDATE ON TABLES TO ${reader} WITH GRANT OPTION`,
        'REVOKE ALL ON TABLES FROM CURRENT_ROLE',
        'REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC',
        `GRANT UPDATE ON SEQUENCES TO ${quoted}`,
        `GRANT USAGE ON SCHEMAS TO ${reader}`,
        `REVOKE USAGE ON TYPES FROM PUBLIC`,
      ].map(
        what =>
          `ALTER DEFAULT PRIVILEGES FOR ROLE ${role} ${what.replace('CURRENT_ROLE', role === 'postgres' ? role : quoted)}`,
      ),
      `ALTER DEFAULT PRIVILEGES FOR ROLE ${role} IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC`,
    )
  const wanted = await privileges(from)
  const defaults = defaultsIn(await privileges(to))
  assert.equal(Object.keys(defaults).length, 11)
  /** The backup's own word on what postgres makes replaces the target's. */
  const expected = { ...defaults, ...wanted }
  // Into what is empty, over what is there, some of it, and as another role.
  for (const [options, only] of [[{}], [{}], [{}, ['app']], [{ role: odd, noOwner: true }]] as const) {
    await restore(options, only ? [...only] : undefined)
    const found = await privileges(to)
    if (!('role' in options)) assert.deepEqual(found, expected, JSON.stringify({ options, only }))
    // What belongs to another is written with another grantor.
    else assert.deepEqual([found.plain, found.f, found.mood, found.app], [null, null, null, null])
    assert.deepEqual(defaultsIn(found), defaultsIn(expected))
  }
  // Whoever wants none of the backup's gets those of the target.
  await restore({ noPrivileges: true })
  assert.match(String((await privileges(to)).plain), new RegExp(`${reader}=r\\*w\\*/postgres`))
})
