import type { CatalogEntry } from '../engine/catalog.ts'
import { manifestFrom } from '../engine/stated.ts'
import { type ExitCode, exitCode } from '../model/failure.ts'
import type { ArtifactRecord, Manifest } from '../model/manifest.ts'
import { showBytes, showCount, showDuration } from '../model/quantity.ts'
import { shellQuoted } from '../model/shell.ts'
import type { Store } from '../model/store.ts'
import { type Global, isoLocal, out, outJson, paint, showTime } from './io.ts'
import { awaited, findBackup, readingOf, withApp } from './work.ts'

interface Options extends Global {
  readonly store: readonly string[]
  readonly identity?: string
}

/** `cairn show BACKUP`: one backup, and for each artifact the line that restores it with public tools alone. */
export function run(handle: string, options: Options): Promise<ExitCode> {
  return withApp(options, async ({ app, ctx }) => {
    const { entry } = await findBackup(app, await app.stores(options.store), handle, ctx, true)
    const { manifest } = await manifestFrom(entry, awaited(ctx))
    const { keyFileOf } = await readingOf(app, options.identity)
    const [copy] = entry.copies
    const commands = manifest.artifacts.map(artifact =>
      copy ? oneLiner(artifact, copy.store, keyFileOf(artifact)) : '',
    )
    if (options.json) await outJson(toJson(entry, manifest, commands))
    else await out(toText(entry, manifest, commands))
    return exitCode.ok
  })
}

/** A line for `sh` that writes the plain bytes to a file in the current folder. */
function oneLiner(artifact: ArtifactRecord, store: Store, keyFile: string | null): string {
  const fetch = artifact.objects.map(object => store.shell(object.key)).join('; ')
  const stored = artifact.objects.length > 1 ? `{ ${fetch}; }` : fetch
  const undo =
    artifact.undo === '' ? '' : ` | ${artifact.undo.replace(/\bKEY\b/, shellQuoted(keyFile ?? 'KEY'))}`
  return `${stored}${undo} > ${shellQuoted(artifact.name.split('/').at(-1) || 'artifact')}`
}

function toJson(entry: CatalogEntry, manifest: Manifest, commands: readonly string[]) {
  return {
    ...manifest,
    status: manifest.missing ? 'incomplete' : 'complete',
    copies: entry.copies.map(({ store, marks, manifestKey }) => ({
      store: store.name,
      manifest: manifestKey,
      held: marks.held,
      deletedAt: marks.deletedAt && isoLocal(marks.deletedAt),
      provedAt: marks.provedAt && isoLocal(marks.provedAt),
      verifiedAt: marks.verifiedAt && isoLocal(marks.verifiedAt),
    })),
    commands: Object.fromEntries(
      manifest.artifacts.map((artifact, index) => [artifact.name, commands[index]]),
    ),
  }
}

function toText(entry: CatalogEntry, manifest: Manifest, commands: readonly string[]): string {
  const seconds = new Date(manifest.finishedAt).getTime() - new Date(manifest.startedAt).getTime()
  const { census } = manifest
  const facts: [string, string][] = [
    ['job', manifest.job === manifest.unit ? manifest.job : `${manifest.job}, ${manifest.unit}`],
    ['source', `${manifest.source.engine} ${manifest.source.version}, by ${manifest.source.client}`],
    ['identity', manifest.source.identity],
    ['started', `${showTime(new Date(manifest.startedAt))}, took ${showDuration(seconds)}`],
    ['data as of', showTime(new Date(manifest.consistentAt))],
    ['size', showBytes(entry.bytes)],
    ['encrypted', manifest.encrypted ? 'yes' : 'no'],
    ...(manifest.missing ?? []).map((why): [string, string] => ['incomplete', why]),
    [
      'census',
      census
        ? `${showCount(census.objects, 'object')}${census.rows === null ? '' : `, ${showCount(census.rows, 'row')}`} (${census.at})`
        : 'none',
    ],
    ...(manifest.lockedUntil
      ? ([['locked until', showTime(new Date(manifest.lockedUntil))]] as [string, string][])
      : []),
    ['copies', entry.copies.map(copyText).join('; ')],
  ]
  const lines = facts.map(([name, value]) => `${name.padEnd(12)} ${value}`)
  const artifacts = manifest.artifacts.map(
    (artifact, index) =>
      `\n${artifact.name}  ${artifact.media}, ${showBytes(artifact.stored.bytes)} stored, ${artifact.stored.sha256 === null ? 'no digest' : `sha256 ${artifact.stored.sha256.slice(0, 16)}…`}\n  ${commands[index]}`,
  )
  const warnings = manifest.warnings.map(
    ({ what, path }) => `warning: ${what}${path === undefined ? '' : `: ${path}`}`,
  )
  return [
    paint('bold', entry.id, process.stdout),
    ...lines,
    ...artifacts,
    ...(warnings.length > 0 ? ['', ...warnings] : []),
  ].join('\n')
}

function copyText({ store, marks }: CatalogEntry['copies'][number]): string {
  const said = [
    marks.held ? 'held' : '',
    marks.deletedAt ? `deleted ${showTime(marks.deletedAt)}` : '',
    marks.provedAt ? `proved ${showTime(marks.provedAt)}` : '',
    marks.verifiedAt ? `verified in full ${showTime(marks.verifiedAt)}` : '',
  ].filter(Boolean)
  return said.length > 0 ? `${store.name} (${said.join(', ')})` : store.name
}
