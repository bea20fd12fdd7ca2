// Secrets that people have typed from paper, or that went through a mail or an editor.

/** What editors put into files and nobody sees. UTF-16 that was read as UTF-8 is letters and NULs. */
const unseen = /[\0\u00a0\u00ad\u200b-\u200f\u2060\ufeff\ufffd]/g

export function withoutUnseen(text: string): string {
  return text.replaceAll(unseen, '')
}

/** The passphrase that a text may be meant to be, where that is another one than the text itself; null when it is not one line. */
export function typedLine(text: string): string | null {
  const line = withoutUnseen(text).trim()
  return line === text || line === '' || /[\r\n]/.test(line) ? null : line
}

/** An armored text as programs want it: each line at its beginning, as it is not in a mail that quotes it. */
export function typedArmor(text: string): string {
  const lines = withoutUnseen(text).split(/\r?\n/)
  return lines.map(line => line.replace(/^[\s>]+/, '').trimEnd()).join('\n')
}
