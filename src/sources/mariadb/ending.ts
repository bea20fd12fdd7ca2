import { NotWhole } from '../../model/content.ts'
import type { Bytes } from '../../model/step.ts'
import { edgesOf } from '../../platform/edges.ts'

/** More than the clients write before the first definition, and after the last row. */
const edgeBytes = 4096

/** What a dump that begins so ends with; what it is made with (`--skip-comments`, `--compact`) leaves one or both out. */
const pairs = [
  // Accounts may stand before and after a dump.
  {
    begins: /^-- Accounts, with what they may do/,
    ends: /\n-- Accounts completed\s*$/,
    last: '-- Accounts completed',
  },
  {
    begins: /^-- (?:MySQL|MariaDB) dump /m,
    ends: /\n-- Dump completed[^\n]*\s*$/,
    last: '-- Dump completed',
  },
  {
    begins: /SET @OLD_SQL_NOTES=@@SQL_NOTES/,
    ends: /SET SQL_NOTES=@OLD_SQL_NOTES/,
    last: 'SET SQL_NOTES=@OLD_SQL_NOTES',
  },
  // What newer dumpers of MariaDB write instead.
  {
    begins: /SET @OLD_NOTE_VERBOSITY=@@NOTE_VERBOSITY/,
    ends: /SET NOTE_VERBOSITY=@OLD_NOTE_VERBOSITY/,
    last: 'SET NOTE_VERBOSITY=@OLD_NOTE_VERBOSITY',
  },
]

/**
 * Whether what mariadb-dump or mysqldump wrote ends as it should, as far as its beginning tells: without comments and
 * settings, nobody can know. `isDump`: it is one, and so not empty.
 */
export async function lookAtDump(bytes: Bytes, isDump: boolean): Promise<string> {
  const { head, tail, bytes: size } = await edgesOf(bytes, edgeBytes)
  if (isDump && size === 0) throw new NotWhole('it is empty')
  const pair = pairs.find(({ begins }) => begins.test(head))
  if (pair && !pair.ends.test(tail)) throw new NotWhole(`it was cut: it does not end with "${pair.last}"`)
  return ''
}
