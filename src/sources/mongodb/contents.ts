import { BSON, type Document } from 'mongodb'
import { damage, usage } from '../../model/failure.ts'
import type { ArtifactRecord, Manifest } from '../../model/manifest.ts'
import type { ArtifactReader } from '../../model/restore.ts'
import type { Bytes } from '../../model/step.ts'
import { dataOf, type Listed, type Met, type OpenArchive, openArchive } from './archive.ts'
import { DocumentReader } from './documents.ts'
import { collectionOf } from './names.ts'

/** A backup opened for reading: an archive, or the files of a folder; both tell the same. */
export async function openContents(manifest: Manifest, read: ArtifactReader): Promise<OpenArchive> {
  const data = manifest.artifacts.filter(({ role }) => role === 'data')
  const [first] = data
  if (!first) throw usage(`cannot restore ${manifest.id}`, 'it holds no data', 'choose another backup')
  if (first.media === 'mongodump-archive') return await openArchive(read.open(first), first.name)
  return await openFolder(data, read)
}

/** `shop/orders.bson` and `shop/orders.metadata.json`; what stands in front of the database is not looked at. */
async function openFolder(data: readonly ArtifactRecord[], read: ArtifactReader): Promise<OpenArchive> {
  const files = data.flatMap(fileIn)
  const listed = new Map<string, Listed>()
  for (const { database, file, kind, artifact } of files) {
    if (kind !== 'metadata') continue
    const metadata = await textOf(read.open(artifact))
    const { collectionName, type } = metadataOf(metadata, artifact.name)
    const collection = String(collectionName ?? collectionOf(file))
    listed.set(`${database}/${file}`, { database, collection, metadata, type: String(type ?? 'collection') })
  }
  const documents = files.filter(({ kind }) => kind === 'documents')
  for (const { database, file } of documents) {
    const described = file.replace(/^system\.buckets\./, '')
    if (listed.has(`${database}/${described}`)) continue
    listed.set(`${database}/${file}`, { database, collection: collectionOf(file), metadata: '', type: '' })
  }
  return {
    listed: [...listed.values()],
    async *contents() {
      for (const { database, file, artifact } of documents) {
        const one = listed.get(`${database}/${file.replace(/^system\.buckets\./, '')}`)
        const place = one ? dataOf(one) : { database, collection: collectionOf(file) }
        yield* collectionIn(place, read.open(artifact), artifact.name)
      }
    },
    close: async () => {},
  }
}

async function* collectionIn(
  place: { readonly database: string; readonly collection: string },
  bytes: Bytes,
  what: string,
): AsyncGenerator<Met> {
  const reader = new DocumentReader(bytes, what, false)
  try {
    yield { type: 'begin', ...place }
    for (let run = await reader.run(); run; run = await reader.run())
      yield { type: 'documents', ...place, ...run }
    if (!(await reader.isAtEnd()))
      throw damage(`${what} is damaged`, 'it holds what is no document', 'use another copy or another backup')
    yield { type: 'end', ...place }
  } finally {
    await reader.close()
  }
}

function fileIn(artifact: ArtifactRecord) {
  const match = /(?:^|\/)([^/]+)\/([^/]+)\.(metadata\.json|bson)$/.exec(artifact.name)
  if (!match) return []
  const [, database = '', file = '', suffix] = match
  return [{ database, file, kind: suffix === 'bson' ? 'documents' : 'metadata', artifact } as const]
}

/** No metadata is larger: a document of the server holds what it tells. */
const longest = 64 * 1024 * 1024

async function textOf(bytes: Bytes): Promise<string> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of bytes) {
    length += chunk.length
    if (length > longest) throw damage('a file of metadata is damaged', 'it is too long', 'use another copy')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** What a collection is made of; nothing where the server keeps it itself. Throws damage for what is no metadata. */
export function metadataOf(metadata: string, what: string): Document {
  if (metadata === '') return {}
  try {
    return BSON.EJSON.parse(metadata, { relaxed: false })
  } catch (error) {
    throw damage(`${what} is damaged`, (error as Error).message, 'use another copy or another backup')
  }
}
