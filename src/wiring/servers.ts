// The servers of databases that a job reads, and restores into: the containers they run in are not stopped.

import type { JobConfig, PartConfig, SourceConfig } from '../config/schema.ts'
import { servers } from '../sources/index.ts'
import { sourcesOf } from './sources.ts'

interface Server {
  readonly host: string
  readonly port: number
}

/** Where an address cannot be read, the source itself says why. */
export async function serversOf(job: JobConfig): Promise<Server[]> {
  const parts = sourcesOf(job).flatMap(partsOf)
  return (await Promise.all(parts.map(part => serversOfPart(part).catch(() => [])))).flat()
}

function partsOf(source: SourceConfig): PartConfig[] {
  return source.type === 'archive' ? source.members.map(member => member.source) : [source]
}

async function serversOfPart(part: PartConfig): Promise<Server[]> {
  if (part.type === 'postgres') return await servers.postgres(part)
  if (part.type === 'mariadb' || part.type === 'mysql') return await servers.mariadb(part)
  return part.type === 'mongodb' ? await servers.mongodb(part) : []
}
