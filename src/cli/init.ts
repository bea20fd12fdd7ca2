import { existsSync, realpathSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { parseConfig } from '../config/read.ts'
import { type ExitCode, exitCode, usage } from '../model/failure.ts'
import { replaceFile } from '../platform/atomic-file.ts'
import { systemFailure } from '../platform/system-error.ts'
import { generateIdentity } from '../stages/index.ts'
import { asking, canAsk, type Global, interruptSignal, out, outJson, say } from './io.ts'

interface Options extends Global {
  readonly defaults?: boolean
  readonly force?: boolean
  readonly source?: string
  readonly store?: string
}

const keyFile = 'cairn-key.txt'

/** `cairn init`: writes a commented configuration and a key to encrypt with; overwrites neither without `--force`, and a key never. */
export async function run(options: Options): Promise<ExitCode> {
  const path = resolve(options.config ?? (process.env.CAIRN_CONFIG || 'cairn.yaml'))
  if (existsSync(path) && !options.force) {
    throw usage(
      `${path} is there already`,
      'it would be replaced',
      'give --force, or --config FILE for another place',
    )
  }
  const asked = options.defaults || !canAsk() ? {} : await ask(options)
  const source = asked.source ?? options.source ?? defaultSource()
  const store = resolve(asked.store ?? options.store ?? 'backups')
  const key = resolve(keyFile)
  const recipient = await keyPair(key)
  const text = template({ source, store, key, recipient })
  parseConfig(text, path)
  write(existsSync(path) ? realpathSync(path) : path, text)
  if (options.json) await outJson({ cairn: 1, config: path, keyFile: key, recipient })
  else
    await out(
      `wrote ${path}\nThe key is in ${key}. Keep a copy of it where a fire here does not reach it: without it nothing can be restored.`,
    )
  say('next: cairn doctor, then cairn backup')
  return exitCode.ok
}

async function ask(options: Options): Promise<{ source?: string; store?: string }> {
  const source = options.source ?? defaultSource()
  const store = options.store ?? resolve('backups')
  return await asking(interruptSignal(), async question => ({
    source:
      (await question(`What to back up (a postgresql:// URL, a SQLite file, a folder) [${source}]: `)) ||
      source,
    store: (await question(`Folder to keep the backups in [${store}]: `)) || store,
  }))
}

/** What is likely to be meant here: the database of the environment, else this folder. */
function defaultSource(): string {
  const url = process.env.DATABASE_URL
  return url?.startsWith('postgres') ? url : process.cwd()
}

/** Makes a key, or takes the public part of the one that is there. */
async function keyPair(path: string): Promise<string> {
  if (existsSync(path)) {
    const { readFileSync } = await import('node:fs')
    const recipient = /^# public key: (age1\w+)$/m.exec(readFileSync(path, 'utf8'))?.[1]
    if (recipient) return recipient
    throw usage(
      `${path} is there already`,
      'its public key is not in it',
      'move it away, or write "# public key: age1…" into it',
    )
  }
  const { recipient, identity } = await generateIdentity()
  const text = `# created: ${new Date().toISOString()}\n# public key: ${recipient}\n${identity.reveal()}\n`
  write(path, text)
  return recipient
}

/** Whole or not at all. Throws a Failure (exit 2). */
function write(path: string, text: string): void {
  const what = `cannot write ${path}`
  try {
    replaceFile(path, text)
  } catch (error) {
    throw systemFailure(error, what, exitCode.usage) ?? error
  }
}

function template(o: { source: string; store: string; key: string; recipient: string }): string {
  const { name, lines } = jobFor(o.source, o.store)
  return `# The configuration of Cairn. "cairn doctor" checks it, "cairn config schema" prints all it can say.

stores:
  disk: { type: local, path: ${quoted(o.store)} }
  # offsite: { type: s3, bucket: my-bucket, prefix: cairn, endpoint: "https://s3.example", region: eu-central-1 }
  # drive: { type: rclone, remote: "gdrive:backups" }

encryption:
  age:
    recipients: [${o.recipient}]
    # Only needed to read backups: a host that only writes them can do without.
    identity: { file: ${quoted(o.key)} }

defaults:
  to: [disk]
  keep: { last: 7, within: 30 days }   # a backup that any of these keeps stays

jobs:
  ${name}:
    source:
${lines.map(line => `      ${line}`).join('\n')}
`
}

function jobFor(source: string, store: string): { name: string; lines: string[] } {
  if (/^postgres(ql)?:\/\//.test(source)) {
    const url = new URL(source)
    const name = jobName(decodeURIComponent(url.pathname.slice(1)) || 'postgres')
    return { name, lines: ['type: postgres', `url: ${quoted(source)}`] }
  }
  const path = resolve(source)
  if (/\.(db|sqlite3?|db3)$/.test(path)) {
    return {
      name: jobName(basename(path).replace(/\.\w+$/, '')),
      lines: ['type: sqlite', `path: ${quoted(path)}`],
    }
  }
  const inside = store.startsWith(`${path}/`)
    ? [`exclude: [${quoted(`./${store.slice(path.length + 1)}`)}]`]
    : []
  return { name: jobName(basename(path)), lines: ['type: files', `paths: [${quoted(path)}]`, ...inside] }
}

function jobName(text: string): string {
  const name = text
    .toLowerCase()
    .replaceAll(/[^a-z0-9_-]+/g, '-')
    .replaceAll(/^[-_]+|[-_]+$/g, '')
  return name && name !== 'latest' ? name : 'backup'
}

function quoted(text: string): string {
  return JSON.stringify(text)
}
