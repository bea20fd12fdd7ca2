import { type ContentCheck, NotWhole } from '../../model/content.ts'
import type { Context } from '../../model/context.ts'
import { showCount } from '../../model/quantity.ts'
import type { Bytes, Step } from '../../model/step.ts'
import { flow } from '../../platform/flow.ts'
import { tarMembers } from '../../platform/tar-reader.ts'

/** A member that is looked into. */
export interface CheckedMember {
  readonly name: string
  /** Whether there is no archive without it. */
  readonly required: boolean
  /** What undoes what was done to its bytes before they were put into the archive. */
  readonly undo: readonly Step[]
  /** Null where its bytes say nothing of themselves. */
  readonly check: ContentCheck | null
}

/** Whether it is a tar, read to its end. */
export const lookAtTar: ContentCheck = async bytes => {
  let count = 0
  for await (const _ of tarMembers(bytes)) count++
  return showCount(count, 'member')
}

/**
 * Whether an archive is a tar, holds what is listed (in the manifest of one of ours) or required, and its members are
 * whole as far as their own formats tell.
 */
export function archiveCheck(
  members: readonly CheckedMember[],
  listed: readonly { readonly member: string; readonly bytes: number }[],
): ContentCheck {
  return async (bytes, ctx) => {
    const found = new Map<string, number | null>()
    for await (const { name, bytes: size, type, body } of tarMembers(bytes)) {
      const path = name.replace(/^(\.\/)+/, '').replace(/\/$/, '')
      found.set(path, type === '5' ? null : size)
      const member = members.find(each => each.name === path)
      if (member?.check) await lookInto(member, member.check, body, ctx)
    }
    const names = new Set([...found.keys()].map(path => path.split('/')[0] ?? '').filter(isName))
    if (names.size === 0) throw new NotWhole('it is a tar without members')
    const wanted = [...listed.map(({ member }) => member), ...requiredOf(members)]
    const missing = wanted.find(name => !isIn(name, [...found.keys()]))
    if (missing !== undefined) throw new NotWhole(`it lacks its member ${missing}`)
    const other = listed.find(({ member, bytes: size }) => (found.get(member) ?? size) !== size)
    if (other) throw new NotWhole(`its member ${other.member} has another size than it was given`)
    return showCount(names.size, 'member')
  }
}

const isName = (name: string): boolean => name !== '' && name !== '.'

function requiredOf(members: readonly CheckedMember[]): string[] {
  return members.filter(({ required }) => required).map(({ name }) => name)
}

function isIn(name: string, paths: readonly string[]): boolean {
  return paths.some(path => path === name || path.startsWith(`${name}/`))
}

/** What is wrong with a member is said of it; what is wrong with the archive around it stays what it is. */
async function lookInto(
  { name, undo }: CheckedMember,
  check: ContentCheck,
  body: Bytes,
  ctx: Context,
): Promise<void> {
  let around: { readonly error: unknown } | null = null
  async function* watched(): Bytes {
    try {
      yield* body
    } catch (error) {
      around = { error }
      throw error
    }
  }
  try {
    await check(undo.length === 0 ? watched() : flow(watched(), [...undo], ctx), ctx)
  } catch (error) {
    ctx.signal.throwIfAborted()
    if (around) throw (around as { error: unknown }).error
    throw new NotWhole(`its member ${name}: ${error instanceof Error ? error.message : error}`)
  }
}
