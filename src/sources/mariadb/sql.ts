/** SQL as text for MariaDB and MySQL: quoting, and names as they stand in dumps. */

/** A name as an identifier, whatever characters it holds. */
export function quoteName(name: string): string {
  return `\`${name.replaceAll('`', '``')}\``
}

/** A text as a literal, for sessions whose sql_mode lets a backslash escape, as ours do. */
export function quoteText(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "''").replaceAll('\0', '\\0')}'`
}

/** A table of a database: `` `shop`.`orders` ``. */
export function quoteTable(database: string, table: string): string {
  return `${quoteName(database)}.${quoteName(table)}`
}

/** `orders`, quoted where it is no plain word: for people, and for names in the census. */
export function showName(name: string): string {
  return /^[A-Za-z0-9_$-]+$/.test(name) ? name : quoteName(name)
}

/**
 * A condition: a column of information_schema is one of these names. MariaDB compares there without regard to case and accents,
 * while `App` and `app` are two databases; the plain comparison stays because the server looks names up by it.
 */
export function isOneOf(column: string, names: readonly string[]): string {
  if (names.length === 0) return 'FALSE'
  const list = names.map(quoteText)
  const bytes = list.map(name => `CAST(${name} AS BINARY)`)
  return `(${column} IN (${list.join(', ')}) AND CAST(${column} AS BINARY) IN (${bytes.join(', ')}))`
}

/** An account as SQL writes it. */
export function quoteAccount(user: string, host: string): string {
  return `${quoteText(user)}@${quoteText(host)}`
}
