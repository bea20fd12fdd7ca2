import type { Packed } from './pack.ts'

/** A folder of an archive, where its files are not listed one by one. */
interface Summary extends Packed {
  readonly files: number
}

/** What a manifest has room for beside everything else: it is written with an indent. */
const most = 16 * 1024

/** The members of an archive as a manifest lists them; of folders with very many files, only the folder. */
export function listable(
  packed: readonly Packed[],
  folders: readonly string[],
): readonly (Packed | Summary)[] {
  if (Buffer.byteLength(JSON.stringify(packed)) <= most) return packed
  const listed = new Map<string, Packed | Summary>()
  for (const one of packed) {
    const folder = folders.find(name => one.member.startsWith(`${name}/`))
    if (folder === undefined) listed.set(one.member, one)
    else listed.set(folder, joined(listed.get(folder), folder, one))
  }
  return [...listed.values()]
}

function joined(before: Packed | Summary | undefined, folder: string, { bytes }: Packed): Summary {
  const files = before && 'files' in before ? before.files : 0
  return { member: folder, media: 'folder', bytes: (before?.bytes ?? 0) + bytes, files: files + 1 }
}
