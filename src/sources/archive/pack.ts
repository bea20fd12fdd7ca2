import { randomUUID } from 'node:crypto'
import { mkdir, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Context } from '../../model/context.ts'
import type { Artifact } from '../../model/source.ts'
import type { Program, Step } from '../../model/step.ts'
import { save } from '../../platform/flow.ts'
import { aboutSpace, needSpace } from '../../platform/space.ts'

const remedy = 'make room, or set CAIRN_SPOOL to a larger disk'

/** What an archive holds of one artifact. */
export interface Packed {
  /** Its path in the archive; of a dump in a folder, the folder. */
  readonly member: string
  readonly media: string
  readonly bytes: number
}

/** Members of an archive that lie in the spool, because a tar says a member's size before its bytes. Disposing removes them. */
export interface Members extends AsyncDisposable {
  /** What is there so far. */
  readonly packed: readonly Packed[]
  /** Puts an artifact there, after these steps. Throws when it cannot be read or does not fit; nothing of it stays then. */
  add(name: string, artifact: Artifact, steps: readonly Step[], ctx: Context): Promise<void>
  /** Takes members out again. */
  remove(names: readonly string[]): Promise<void>
  /** What writes them as an ordinary tar, in their order, in GNU's format: names may be long, and sizes beyond 8 GiB. */
  tar(): Promise<Program>
}

/** Nothing is in the spool before the first member. */
export function membersIn(spool: string): Members {
  const place = join(spool, randomUUID())
  const root = join(place, 'members')
  const held: (Packed & { readonly files: readonly string[] })[] = []
  const drop = (path: string): Promise<void> => rm(path, { recursive: true, force: true, maxRetries: 3 })
  return {
    get packed() {
      return held.map(({ files: _, ...packed }) => packed)
    },
    async add(name, artifact, steps, ctx) {
      const fault = nameFault(name)
      if (fault) throw new Error(`${JSON.stringify(name)} cannot be the name of a member: ${fault}`)
      if (held.some(one => one.member === name)) throw new Error(`two members are named ${name}`)
      const path = join(root, name)
      try {
        await needSpace(ctx.spool, artifact.sizeHint ?? 0, `cannot spool ${artifact.name}`, remedy)
        await mkdir(dirname(path), { recursive: true, mode: 0o700 })
        held.push({ member: name, media: artifact.media, ...(await put(artifact, steps, name, root, ctx)) })
      } catch (error) {
        await drop(path)
        ctx.signal.throwIfAborted()
        throw aboutSpace(error, `cannot spool ${artifact.name} in ${ctx.spool}`, remedy)
      }
    },
    async remove(names) {
      for (const [index, { member }] of [...held.entries()].reverse()) {
        if (!names.includes(member)) continue
        held.splice(index, 1)
        await drop(join(root, member))
      }
    },
    async tar() {
      const list = join(place, 'list')
      await writeFile(list, held.flatMap(({ files }) => files.map(file => `${file}\0`)).join(''), {
        mode: 0o600,
      })
      return {
        program: 'tar',
        args: [
          '--create',
          '--file=-',
          ...tarOptions,
          `--directory=${root}`,
          '--null',
          `--files-from=${list}`,
        ],
      }
    },
    [Symbol.asyncDispose]: () => drop(place),
  }
}

const tarOptions = [
  '--format=gnu',
  '--no-recursion',
  // Whoever ran the backup is nothing to whoever restores it.
  ...['--owner=0', '--group=0', '--numeric-owner', '--mode=0600'],
]

/** Writes an artifact below the folder, under its name. */
async function put(
  artifact: Artifact,
  steps: readonly Step[],
  name: string,
  root: string,
  ctx: Context,
): Promise<{ readonly files: readonly string[]; readonly bytes: number }> {
  const path = join(root, name)
  if (!artifact.intoFolder || steps.length > 0)
    return {
      files: [name],
      bytes: await save(artifact.open(ctx), [...(artifact.through ?? []), ...steps], path, ctx),
    }
  const files = (await artifact.intoFolder(path, ctx)).map(file => `${name}/${file}`)
  let bytes = 0
  for (const file of files) bytes += (await stat(join(root, file))).size
  return { files, bytes }
}

/** Why no archive should hold such a name: extracted anywhere, it must stay there. */
function nameFault(name: string): string | null {
  if (name === '' || name.includes('\0')) return 'there is no such file'
  const parts = name.split('/')
  return parts.some(part => part === '' || part === '.' || part === '..') ? 'it leads elsewhere' : null
}
