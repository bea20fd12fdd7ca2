import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { basename, isAbsolute, resolve } from 'node:path'
import * as z from 'zod'
import { Failure, usage } from '../../model/failure.ts'
import type { Source } from '../../model/source.ts'
import { pathsOf } from '../../platform/mounts.ts'
import { openSession, type Place } from './session.ts'
import { gnuTar } from './tar.ts'

const AbsolutePath = z
  .string()
  .refine(path => isAbsolute(path) && !path.includes('\0'), 'must be an absolute path')
  .transform(path => resolve(path))

const Name = z
  .string()
  .regex(/^[^/\0]+$/, 'must be a single name without "/"')
  .refine(name => name !== '.' && name !== '..', 'must be a name')

export const FilesOptions = z.strictObject({
  paths: z
    .array(z.union([AbsolutePath, z.strictObject({ path: AbsolutePath, name: Name })]))
    .min(1)
    .max(64)
    .meta({
      description: 'folders and files; each becomes one tar, named by its last part or by "name"',
      example: ['/srv/wiki', { path: '/etc/wiki.conf', name: 'configuration' }],
    }),
  exclude: z
    .array(z.string().min(1))
    .default([])
    .meta({
      description: 'what to leave out: patterns of GNU tar, or absolute paths',
      example: ['*.log', 'cache/*', '/srv/wiki/tmp'],
    }),
  withName: z
    .boolean()
    .default(false)
    .describe('the names in the tar begin with that of the folder, as `tar -C PARENT NAME` writes them'),
  oneFileSystem: z.boolean().default(false).describe('leave out what is mounted inside the folders'),
})
export type FilesOptions = z.infer<typeof FilesOptions>

/**
 * Folders and files as one backup, read by GNU tar while they may change. What changed or vanished while it was
 * read is listed in the backup's warnings; what cannot be read makes the backup fail. Symbolic links inside a
 * folder are stored as links; a path that is itself a link is followed. `apart`: folders that are left out, by whatever path they
 * are reached: the stores.
 */
export function filesSource(options: FilesOptions, apart: readonly string[] = []): Source {
  return {
    engine: 'files',
    async inspect(ctx) {
      const tar = await gnuTar(ctx)
      const places = await placesOf(options)
      const folders = places.some(place => place.kind === 'folder')
      return {
        identity: `files:${places
          .map(place => place.path)
          .sort()
          .join(':')}`,
        version: tar.version,
        local: true,
        units: [{ name: 'files' }],
        // The size of a folder is known only to those who walk through it.
        estimate: folders ? 0 : places.reduce((sum, place) => sum + place.bytes, 0),
      }
    },
    async open(_unit, _parent, level, ctx) {
      const leftOut = (await Promise.all(apart.map(pathsOf))).flat()
      return openSession(await placesOf(options), { ...options, leftOut }, await gnuTar(ctx), level, ctx)
    },
  }
}

async function placesOf(options: FilesOptions): Promise<Place[]> {
  const places: Place[] = []
  for (const entry of options.paths) {
    const path = typeof entry === 'string' ? entry : entry.path
    const name = typeof entry === 'string' ? basename(entry) || 'root' : entry.name
    const twin = places.find(place => place.name === name)
    if (twin) {
      throw usage(
        `cannot back up both ${twin.path} and ${path}`,
        `both are named ${name}`,
        'give one another "name"',
      )
    }
    places.push({ name, path, ...(await kindOf(path)) })
  }
  return places
}

async function kindOf(path: string): Promise<Pick<Place, 'kind' | 'bytes'>> {
  try {
    const found = await stat(path)
    if (!found.isDirectory() && !found.isFile()) {
      throw usage(`cannot back up ${path}`, 'it is neither a folder nor a regular file')
    }
    await access(path, found.isDirectory() ? constants.R_OK | constants.X_OK : constants.R_OK)
    return { kind: found.isDirectory() ? 'folder' : 'file', bytes: found.size }
  } catch (error) {
    if (error instanceof Failure) throw error
    const code = (error as NodeJS.ErrnoException).code
    const why =
      code === 'ENOENT' ? 'it does not exist' : code === 'EACCES' ? 'there is no permission' : String(error)
    throw usage(`cannot back up ${path}`, why, 'check the path, its owner, and in a container the mount')
  }
}
