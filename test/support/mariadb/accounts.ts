import type { MariadbFacts } from '../../services/facts.ts'
import { runSql } from '../../services/mariadb.ts'

/** Accounts as nobody should name them, on a server of its own, with a database whose definitions are theirs. */
export async function fillAccounts(server: MariadbFacts): Promise<void> {
  await mayProxy(server)
  await runSql(server, `${common} ${server.flavour === 'mysql' ? ofMysql : ofMariadb}`)
}

/** MariaDB's servers of the tests begin without anybody who could come by TCP and may do that. */
export async function mayProxy(server: MariadbFacts): Promise<void> {
  if (server.flavour === 'mariadb')
    await runSql(
      server,
      `INSERT IGNORE INTO mysql.proxies_priv VALUES ('%', 'admin', '', '', 1, '', NOW()); FLUSH PRIVILEGES`,
    )
}

const common = String.raw`
CREATE DATABASE shop CHARACTER SET utf8mb4; USE shop; CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE gone (id int);
INSERT INTO t VALUES (1, 10), (2, 20); CREATE FUNCTION f() RETURNS int DETERMINISTIC RETURN 1; CREATE PROCEDURE ${'`'}Pro c${'`'}() SELECT 1;
CREATE DATABASE aside; CREATE TABLE aside.t (id int);
CREATE USER ''@'localhost' IDENTIFIED BY 'anonymous';
CREATE USER 'same'@'%' IDENTIFIED BY 'a'; CREATE USER 'same'@'10.%' IDENTIFIED BY 'b'; CREATE USER 'same'@'192.168.0.0/255.255.0.0' IDENTIFIED BY 'c';
CREATE USER 'it''s "odd" ${'`'}q${'`'} \\ b;--'@'%' IDENTIFIED BY 'pass ''w"ö\\rd'; GRANT SELECT ON shop.* TO 'it''s "odd" ${'`'}q${'`'} \\ b;--'@'%';
CREATE USER 'li\nne'@'%' IDENTIFIED BY 'x'; GRANT SELECT ON shop.t TO 'li\nne'@'%'; CREATE USER 'ünï ☃'@'%' IDENTIFIED BY 'x'; CREATE USER ' DEFAULT ROLE x REQUIRE y'@'%' IDENTIFIED BY 'x'; CREATE USER 'IDENTIFIED BY z'@'%' IDENTIFIED BY 'x';
CREATE USER 'a name of thirty-two characters!'@'%' IDENTIFIED BY 'x';
CREATE USER expired IDENTIFIED BY 'x' PASSWORD EXPIRE; CREATE USER lasting IDENTIFIED BY 'x' PASSWORD EXPIRE INTERVAL 90 DAY;
CREATE USER 'both'@'%' IDENTIFIED BY 'x' PASSWORD EXPIRE INTERVAL 5 DAY ACCOUNT LOCK; ALTER USER 'both'@'%' PASSWORD EXPIRE;
CREATE USER locked IDENTIFIED BY 'x' ACCOUNT LOCK; CREATE USER bare; CREATE USER plugged IDENTIFIED BY 'x'; GRANT SELECT ON shop.* TO plugged;
CREATE USER lim IDENTIFIED BY 'x' REQUIRE X509 WITH MAX_QUERIES_PER_HOUR 10 MAX_UPDATES_PER_HOUR 4 MAX_CONNECTIONS_PER_HOUR 5 MAX_USER_CONNECTIONS 3;
CREATE USER tls IDENTIFIED BY 'x' REQUIRE SUBJECT '/CN=it''s; \\x' AND ISSUER '/C="q"' AND CIPHER 'AES';
CREATE USER far IDENTIFIED BY 'x' WITH MAX_USER_CONNECTIONS 7; GRANT RELOAD, PROCESS ON *.* TO far WITH GRANT OPTION; GRANT ALL ON *.* TO tls;
CREATE USER 'ghost'@'%' IDENTIFIED BY 'g'; GRANT SELECT, EXECUTE ON shop.* TO ghost;
CREATE DEFINER = ghost VIEW b1 AS SELECT * FROM t; CREATE DEFINER = ghost FUNCTION g() RETURNS int DETERMINISTIC RETURN (SELECT COUNT(*) FROM b1);
CREATE DEFINER = ghost VIEW c3 AS SELECT g() AS n FROM b1;
CREATE ROLE r1; CREATE ROLE r2; GRANT r1 TO r2; GRANT r2 TO lim WITH ADMIN OPTION; GRANT r1 TO 'same'@'%';
GRANT SELECT ON shop.* TO r1; GRANT INSERT ON shop.t TO r2;
GRANT SELECT (id), UPDATE (n) ON shop.t TO lim; GRANT EXECUTE ON FUNCTION shop.f TO lim; GRANT EXECUTE, ALTER ROUTINE ON PROCEDURE shop.${'`'}Pro c${'`'} TO lim WITH GRANT OPTION;
GRANT SELECT ON shop.b1 TO lim; GRANT SELECT ON ${'`'}sh\_%${'`'}.* TO lim; GRANT SELECT ON mysql.user TO lim; GRANT SELECT ON shop.t TO ''@'localhost';
GRANT PROXY ON lim TO 'same'@'10.%' WITH GRANT OPTION;
GRANT INSERT ON shop.gone TO locked; DROP TABLE gone; GRANT SELECT ON aside.t TO locked;
`

const ofMariadb = `
CREATE ROLE same; CREATE ROLE ${'`'}ro"le 'q${'``'}☃${'`'}; GRANT same TO 'same'@'10.%'; GRANT ${'`'}ro"le 'q${'``'}☃${'`'} TO lim; SET DEFAULT ROLE r2 FOR lim;
CREATE USER twice IDENTIFIED VIA mysql_native_password USING '*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19' OR unix_socket;
CREATE USER sock IDENTIFIED VIA unix_socket; CREATE USER never IDENTIFIED VIA mysql_native_password USING 'invalid';
CREATE USER 'byhost'@'db.example' IDENTIFIED BY 'x'; GRANT SELECT ON shop.t TO PUBLIC; FLUSH PRIVILEGES;
`

const ofMysql = String.raw`
CREATE ROLE ${'`'}ro"le 'q${'``'}☃${'`'}@'host'; GRANT ${'`'}ro"le 'q${'``'}☃${'`'}@'host' TO lim; SET DEFAULT ROLE r2, ${'`'}ro"le 'q${'``'}☃${'`'}@'host' TO lim;
CREATE USER careful IDENTIFIED BY 'x' FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 2 PASSWORD HISTORY 5 COMMENT 'it''s \\ "x" DEFAULT ROLE y REQUIRE z';
GRANT BACKUP_ADMIN, SYSTEM_VARIABLES_ADMIN ON *.* TO lim WITH GRANT OPTION;
SET GLOBAL partial_revokes = ON; CREATE USER partly IDENTIFIED BY 'x'; GRANT SELECT ON *.* TO partly; REVOKE SELECT ON mysql.* FROM partly;
CREATE USER second IDENTIFIED BY 'x'; ALTER USER second IDENTIFIED BY 'z' RETAIN CURRENT PASSWORD;
`

/** What the server says of each account but the administrator's and its own, in its own words. */
export async function accountsOf(server: MariadbFacts): Promise<string[]> {
  const isMysql = server.flavour === 'mysql'
  const role = isMysql ? `'N'` : 'is_role'
  const listed = await runSql(
    server,
    `SELECT REPLACE(TO_BASE64(User), '\n', ''), REPLACE(TO_BASE64(Host), '\n', ''), ${role} FROM mysql.user
      WHERE User NOT IN ('admin', 'root') AND User NOT LIKE 'mysql.%' AND User <> 'mariadb.sys' AND Host <> 'db.example' ORDER BY 1, 2, 3`,
  )
  const accounts = listed
    .split('\n')
    .filter(Boolean)
    .map(line => line.split('\t'))
  const plain = (text = ''): string => Buffer.from(text, 'base64').toString().replace(/['\\]/g, '\\$&')
  const questions = accounts.map(([user, host, is]) => {
    const name = is === 'Y' ? `'${plain(user)}'` : `'${plain(user)}'@'${plain(host)}'`
    return `${is === 'Y' ? 'DO 0' : `SHOW CREATE USER ${name}`}; SHOW GRANTS FOR ${name}`
  })
  const first = isMysql ? 'SET SESSION print_identified_with_as_hex = ON;' : ''
  return (await runSql(server, `${first} ${questions.join(';')}`)).split('\n').sort()
}
