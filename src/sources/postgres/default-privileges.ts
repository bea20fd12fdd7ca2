import { quoteText } from './sql.ts'

/** Holds what was set aside, until the transaction ends. */
const memory = quoteText('cairn.default_privileges')

const grantee = `CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END`

const grants = (list: string): string => `(
  SELECT coalesce(array_agg(format('%s GRANT %s ON %s TO %s%s', head, privilege_type, kind, ${grantee},
                                   CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)), '{}')
    FROM aclexplode(${list}))`

/** A role's entries, each with the statements that make it what every new database has (`strip`), and what it is now (`renew`). */
const entries = `
  SELECT e.defaclrole AS role, e.defaclnamespace AS space, e.defaclobjtype AS type,
         revokes || ${grants('plain')} AS strip, revokes || ${grants('e.defaclacl')} AS renew
    FROM pg_default_acl e JOIN pg_roles r ON r.oid = e.defaclrole LEFT JOIN pg_namespace n ON n.oid = e.defaclnamespace,
         LATERAL (SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s', r.rolname, ' IN SCHEMA ' || quote_ident(n.nspname)) AS head,
                         CASE e.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
                              WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' WHEN 'L' THEN 'LARGE OBJECTS' END AS kind,
                         CASE WHEN n.oid IS NULL THEN
                           acldefault(CASE e.defaclobjtype WHEN 'S' THEN 's' ELSE e.defaclobjtype END, e.defaclrole) END AS plain) k,
         LATERAL (SELECT array_agg(DISTINCT format('%s REVOKE ALL ON %s FROM %s', head, kind, ${grantee})) AS revokes
                    FROM aclexplode(plain || e.defaclacl) a) v`

/**
 * What a role makes gets the privileges that ALTER DEFAULT PRIVILEGES says at the target, and an archive, which tells only
 * the difference to what every new database has, does not take them away again. So they are set aside while it is read.
 * `role`: who makes things; undefined: who we are. A statement, in the transaction of the restore, under our own search_path.
 */
export function setAsideDefaults(role: string | undefined): string {
  const who = role === undefined ? 'current_user' : quoteText(role)
  return `DO ${quoteText(`
DECLARE entry record; statement text; kept jsonb := '[]';
BEGIN
  FOR entry IN ${entries} WHERE r.rolname = ${who} LOOP
    kept := kept || jsonb_build_object('role', entry.role, 'space', entry.space, 'type', entry.type, 'renew', entry.renew);
    FOREACH statement IN ARRAY entry.strip LOOP EXECUTE statement; END LOOP;
  END LOOP;
  PERFORM set_config(${memory}, kept::text, true);
END`)};\n`
}

/** Puts back what was set aside, but for what the archive itself says about, and what was of a schema that was made anew. */
export const putDefaultsBack = `SET search_path = pg_catalog;
DO ${quoteText(`
DECLARE entry jsonb; statement text;
BEGIN
  FOR entry IN SELECT * FROM jsonb_array_elements(current_setting(${memory})::jsonb) LOOP
    CONTINUE WHEN EXISTS (SELECT FROM pg_default_acl WHERE defaclrole = (entry->>'role')::oid
      AND defaclnamespace = (entry->>'space')::oid AND defaclobjtype = (entry->>'type')::"char");
    CONTINUE WHEN entry->>'space' <> '0' AND NOT EXISTS (SELECT FROM pg_namespace WHERE oid = (entry->>'space')::oid);
    FOR statement IN SELECT * FROM jsonb_array_elements_text(entry->'renew') LOOP EXECUTE statement; END LOOP;
  END LOOP;
END`)};\n`
