import { NotWhole } from '../../model/content.ts'
import type { Bytes } from '../../model/step.ts'
import { edgesOf } from '../../platform/edges.ts'

/** More than pg_dump writes before the name of what it is, and after its last word. */
const edgeBytes = 4096

const beginning = /^[\s-]*PostgreSQL database (cluster )?dump\s/

/**
 * Whether a script of pg_dump or pg_dumpall ends as whole ones do: no option of theirs leaves its last line out. It is
 * looked at, not taken apart. `isDump`: it is one, however it begins. What else pg_dump may have written there (an
 * archive) is left to pg_restore.
 */
export async function lookAtScript(bytes: Bytes, isDump: boolean): Promise<string> {
  const { head, tail } = await edgesOf(bytes, edgeBytes)
  const found = beginning.exec(head)
  if (!found) {
    if (!isDump || /^(PGDMP|toc\.dat\0)/.test(head)) return ''
    throw new NotWhole('it does not begin as a dump of pg_dump does')
  }
  const end = `-- PostgreSQL database ${found[1] ?? ''}dump complete`
  // A server's dump ends that mode before its databases come.
  const token = found[1] ? undefined : /\n\\restrict (\w+)\n/.exec(head)?.[1]
  if (token && !tail.includes(`\n\\unrestrict ${token}\n`))
    throw new NotWhole("it was cut: it does not end psql's restricted mode")
  const at = tail.lastIndexOf(`\n${end}`)
  // Behind it stands, at the most, what ends psql's restricted mode.
  const behind = tail.slice(at + 1).split('\n')
  if (at >= 0 && behind.every(line => /^(--.*|\\unrestrict \w+|)$/.test(line.trim()))) return ''
  throw new NotWhole(`it was cut: it does not end with "${end}"`)
}
