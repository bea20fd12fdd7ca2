// What is known of the bytes of an artifact: by its kind, and of an archive by the job that made it.

import type { Config, MemberConfig } from '../config/schema.ts'
import type { ContentCheck } from '../model/content.ts'
import type { ArtifactRecord, Manifest } from '../model/manifest.ts'
import { archiveCheck, type CheckedMember, contentCheck } from '../sources/index.ts'
import { ownSource, restorable } from './sources.ts'

/** What looks at the plain bytes of an artifact; null where they do not tell whether they are whole. */
export function contentOf(manifest: Manifest, record: ArtifactRecord, config: Config): ContentCheck | null {
  const { members: said } = manifest.source.options as {
    members?: readonly { member: string; bytes: number }[]
  }
  const listed = Array.isArray(said) ? said : []
  const archive = () => archiveCheck(listed.length > 0 ? [] : membersOf(manifest, config), listed)
  return contentCheck(manifest.source.engine, record, archive)
}

/** Of an archive of ours its manifest tells, and what its job says by now may be of another one. */
function membersOf(manifest: Manifest, config: Config): CheckedMember[] {
  const own = ownSource(manifest, config)
  return own?.type === 'archive' ? own.members.map(member => checked(member, config)) : []
}

function checked(member: MemberConfig, config: Config): CheckedMember {
  const { name, undo, by } = restorable(member, config)
  const { engine, media } = by(Buffer.alloc(0))
  // A dump in a folder is no stream of its own here.
  const isFolder = media === 'pg_dump-directory'
  const check = isFolder ? null : contentCheck(engine, { media, role: 'data' }, () => archiveCheck([], []))
  return { name, undo, required: member.required, check }
}
