/** A word as a POSIX shell takes it unchanged. */
export function shellQuoted(text: string): string {
  return /^[A-Za-z0-9_./:@%+=][A-Za-z0-9_./:@%+=-]*$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
