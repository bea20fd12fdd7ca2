import { type CatalogEntry, type Copy, isLive, isSilent, readCatalog, resolve } from '../engine/catalog.ts'
import { type Verified, verifyCopy } from '../engine/verify.ts'
import { type ExitCode, exitCode, Failure, worstExit } from '../model/failure.ts'
import { showBytes } from '../model/quantity.ts'
import { type Global, out, outJson, paint, sayFailure } from './io.ts'
import { awaited, readingOf, saySilent, whereToLook, withApp } from './work.ts'

interface Options extends Global {
  readonly store: readonly string[]
  readonly identity?: string
}

/** `cairn verify [BACKUP…]`: reads every copy back from its store, byte for byte; all backups when none is named. */
export function run(handles: readonly string[], options: Options): Promise<ExitCode> {
  return withApp(options, async ({ app, ctx, report }) => {
    const stores = await app.stores(options.store)
    const catalog = await readCatalog(stores, null, awaited(ctx), app.named)
    const entries =
      handles.length > 0
        ? handles.map(handle => resolve(catalog, handle, app.namesOf, app.named))
        : catalog.entries.filter(isLive)
    if (entries.length === 0) {
      saySilent(catalog)
      const asked = stores.filter(({ name }) => !isSilent(name, catalog))
      const answered = asked.map(({ name }) => name)
      throw new Failure({
        what: 'nothing was verified',
        why: `there is no backup in ${answered.join(', ')}`,
        remedy:
          (await whereToLook(app, asked, null, ctx)) ?? 'is the right store mounted, the right bucket named?',
        exit: catalog.silent.length > 0 ? exitCode.partial : exitCode.noSuchBackup,
      })
    }
    const looking = { ...(await readingOf(app, options.identity)), contentOf: app.contentOf }
    const results: Verified[] = []
    for (const entry of entries) {
      ctx.emit({ type: 'phase', phase: 'verify', job: `${entry.job} ${entry.id}` })
      for (const copy of staying(entry)) {
        const result = await verifyCopy(entry, copy, looking, ctx)
        results.push(result)
        if (!options.json) await printOne(result, report.end)
      }
    }
    if (options.json) await outJson({ cairn: 1, copies: results.map(toJson) })
    saySilent(catalog)
    const failures = results.flatMap(result => result.failures)
    if (failures.length > 0) return worstOf(failures.map(failure => failure.exit))
    return catalog.silent.length > 0 ? exitCode.partial : exitCode.ok
  })
}

/** A copy whose data is being removed lacks some of it, and is not damaged. Throws a Failure (exit 10) when there is no other. */
function staying(entry: CatalogEntry): Copy[] {
  const copies = entry.copies.filter(({ marks }) => !marks.isGoing)
  if (copies.length > 0) return copies
  const stores = entry.copies.map(({ store }) => store.name).join(', ')
  throw new Failure({
    what: `cannot verify ${entry.id}`,
    why: `it is being deleted from ${stores}`,
    remedy: 'cairn list shows what stays',
    exit: exitCode.noSuchBackup,
  })
}

/** Any damage is 20, else any missing key is 12, else 1. */
function worstOf(codes: readonly ExitCode[]): ExitCode {
  const worst = worstExit(codes)
  return worst === exitCode.damaged || worst === exitCode.wrongKey ? worst : exitCode.failed
}

async function printOne(result: Verified, clear: () => void): Promise<void> {
  clear()
  for (const failure of together(result.failures)) sayFailure(failure)
  if (result.failures.length > 0) return
  const depth =
    result.level === 'decoded'
      ? 'every byte read and decoded'
      : 'every stored byte read; no key at hand to decode it'
  const facts = [showBytes(result.bytes), depth, ...result.contents].join(', ')
  await out(`${paint('green', 'sound', process.stdout)} ${result.id} in ${result.store}: ${facts}`)
}

/** A key that does not fit one artifact of a copy mostly fits none of it: that is told once. */
function together(failures: readonly Failure[]): Pick<Failure, 'what' | 'why' | 'remedy'>[] {
  const first = failures.find(({ exit }) => exit === exitCode.wrongKey)
  const same = failures.filter(failure => failure !== first && failure.why === first?.why)
  const rest = failures.filter(failure => !same.includes(failure))
  return rest.map(failure => {
    const { what, why, remedy } = failure
    const more = failure === first && same.length > 0 ? ` (and ${same.length} more of it)` : ''
    return { what, why: why + more, remedy }
  })
}

function toJson({ id, store, level, bytes, contents, failures }: Verified) {
  return {
    id,
    store,
    sound: failures.length === 0,
    level,
    bytes,
    contents,
    failures: failures.map(({ what, why, remedy, exit }) => ({ what, why, remedy, exit })),
  }
}
