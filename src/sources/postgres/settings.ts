import type { Database } from './connect.ts'
import { nameOf, quoteName, quoteText, sqlOf, statements, type Token } from './sql.ts'

/** The artifact that holds what belongs to a database and stands outside of it. */
export const settingsName = 'postgres/database.sql'

interface Row {
  readonly name: string
  readonly comment: string | null
  /** -1: any number of connections. */
  readonly limit: number
  readonly template: boolean
  /** `name=value`; `role` is null where it holds for everybody. */
  readonly settings: readonly { readonly role: string | null; readonly setting: string }[]
  /** Null: the default privileges. */
  readonly grants:
    | readonly { readonly grantee: string | null; readonly privilege: string; readonly grantable: boolean }[]
    | null
}

const question = `
  SELECT d.datname::text AS name, shobj_description(d.oid, 'pg_database') AS comment,
         d.datconnlimit AS limit, d.datistemplate AS template,
         coalesce((SELECT json_agg(json_build_object('role', r.rolname, 'setting', setting))
                     FROM pg_catalog.pg_db_role_setting s CROSS JOIN unnest(s.setconfig) setting
                     LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole WHERE s.setdatabase = d.oid), '[]') AS settings,
         CASE WHEN d.datacl IS NOT NULL THEN
           coalesce((SELECT json_agg(json_build_object('grantee', r.rolname, 'privilege', a.privilege_type,
                                                       'grantable', a.is_grantable))
                       FROM aclexplode(d.datacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee), '[]')
         END AS grants
    FROM pg_catalog.pg_database d WHERE d.datname = current_database()`

/**
 * A database's settings, limits, privileges and comment as SQL; '' where there are none. pg_dump's archive holds them too, but
 * pg_restore brings them back only with --create, under the old name and outside of any transaction.
 */
export async function databaseSettings(db: Database): Promise<string> {
  const row = await db.one<Row>(question)
  const database = `DATABASE ${quoteName(row.name)}`
  const lines = row.settings.map(({ role, setting }) => {
    const target = role === null ? database : `ROLE ${quoteName(role)} IN ${database}`
    const at = setting.indexOf('=')
    return `ALTER ${target} SET ${quoteSetting(setting.slice(0, at))} TO ${settingValue(setting.slice(0, at), setting.slice(at + 1))};`
  })
  if (row.limit >= 0) lines.push(`ALTER ${database} CONNECTION LIMIT ${row.limit};`)
  if (row.template) lines.push(`ALTER ${database} IS_TEMPLATE true;`)
  if (row.comment !== null) lines.push(`COMMENT ON ${database} IS ${quoteText(row.comment)};`)
  if (row.grants) lines.push(`REVOKE ALL ON ${database} FROM PUBLIC;`)
  for (const { grantee, privilege, grantable } of row.grants ?? []) {
    const to = grantee === null ? 'PUBLIC' : quoteName(grantee)
    lines.push(`GRANT ${privilege} ON ${database} TO ${to}${grantable ? ' WITH GRANT OPTION' : ''};`)
  }
  return lines.map(line => `${line}\n`).join('')
}

/** `app.tenant` is two names to SQL. */
function quoteSetting(name: string): string {
  return name.split('.').map(quoteName).join('.')
}

/** Lists of names are kept as `"$user", public`, and set as one literal each (PostgreSQL source, GUC_LIST_QUOTE). */
const lists =
  /^(search_path|temp_tablespaces|(local|session|shared)_preload_libraries|unix_socket_directories)$/

function settingValue(name: string, value: string): string {
  if (!lists.test(name)) return quoteText(value)
  const items = value.match(/"[^"]*(?:""[^"]*)*"|[^",\s][^,]*/g) ?? ['']
  return items
    .map(item => quoteText(item.startsWith('"') ? item.slice(1, -1).replaceAll('""', '"') : item.trim()))
    .join(', ')
}

/** The same SQL for a database of another name, as statements. */
export function settingsStatements(sql: string, from: string, to: string): string[] {
  return [...statements(sql)].map(tokens => sqlOf(renamed(tokens, from, to)))
}

function renamed(tokens: readonly Token[], from: string, to: string): Token[] {
  return tokens.map((token, index) => {
    const isDatabase = tokens[index - 1]?.value === 'DATABASE' && nameOf(token) === from
    return isDatabase ? { ...token, text: quoteName(to), value: to } : token
  })
}
