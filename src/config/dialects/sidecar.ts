import { literalPattern } from '../../model/key-pattern.ts'
import type { Dialect, Plain } from './dialect.ts'
import { type InlineSecret, inlineSecret } from './inline.ts'
import type { SecretPlace, Variables } from './variables.ts'

/** The compose sidecar: one gzipped tar of databases, folders and files, with gpg around it, to a folder and to S3. */
export const sidecar: Dialect = {
  name: 'sidecar',
  strong: ['BACKUP_NAME', 'BACKUP_LOCAL_PATH', 'BACKUP_S3_BUCKET'],
  weak: [['BACKUP_SCHEDULE']],
  needs:
    'BACKUP_NAME, BACKUP_LOCAL_PATH or BACKUP_S3_BUCKET, and what to back up: BACKUP_POSTGRES, BACKUP_MONGODB, BACKUP_DIRS, BACKUP_FILES',
  prefixes: ['BACKUP_'],
  waits: true,
  webhooks: webhooksOf,
  translate: env => {
    const name = nameOf(env)
    const stores = storesOf(env, name)
    const encryption = env.secret('BACKUP_ENCRYPTION_KEY')
    const schedule = env.schedule('BACKUP_SCHEDULE')
    const webhooks = webhooksOf(env)
    const containers = containersOf(env)
    if (env.flag('BACKUP_DEBUG')) env.isVerbose = true
    return {
      stores,
      // Without a schedule the container waits for `backup-now.sh`.
      ...(schedule ? {} : { serve: { idle: true } }),
      jobs: {
        sidecar: {
          source: { type: 'archive', name, members: membersOf(env) },
          to: Object.keys(stores),
          key: { name: `${literalPattern(name)}-%Y-%m-%d-%H%M%S.tar` },
          ...env.zone(),
          compression: { gzip: {} },
          encryption: encryption ? { gpg: { passphrase: encryption } } : 'none',
          keep: keepOf(env),
          undelete: '0 s',
          ...(schedule ? { schedule } : {}),
          ...(webhooks ? { webhooks } : {}),
          ...(containers ? { containers, capture: 'spool' } : {}),
        },
      },
    }
  },
}

function nameOf(env: Variables): string {
  const name = env.required('BACKUP_NAME', 'a name for the backups')
  if (name.includes('/') || name === '..' || name === '.')
    env.fault('BACKUP_NAME', 'a name without "/"', name)
  return name
}

function storesOf(env: Variables, name: string): Record<string, Plain> {
  const path = env.parsed('BACKUP_LOCAL_PATH', 'a path that begins with "/"', text =>
    text.startsWith('/') ? text : null,
  )
  const bucket = env.text('BACKUP_S3_BUCKET')
  if (env.text('BACKUP_LOCAL_PATH') === undefined && bucket === undefined)
    env.fault('BACKUP_LOCAL_PATH', 'the folder for the backups, or BACKUP_S3_BUCKET', null)
  return {
    ...(path === undefined ? {} : { local: { type: 'local', path: `${path.replace(/\/+$/, '')}/${name}` } }),
    ...(bucket === undefined ? {} : { s3: s3Of(env, bucket, name) }),
  }
}

function s3Of(env: Variables, bucket: string, prefix: string): Plain {
  const id = env.secret('BACKUP_S3_ACCESS_KEY')
  const secret = env.secret('BACKUP_S3_SECRET_KEY')
  if (id && !secret) env.fault('BACKUP_S3_SECRET_KEY', 'the secret that goes with BACKUP_S3_ACCESS_KEY', null)
  if (secret && !id) env.fault('BACKUP_S3_ACCESS_KEY', 'the key that goes with BACKUP_S3_SECRET_KEY', null)
  const endpoint = env.endpoint('BACKUP_S3_ENDPOINT')
  return {
    type: 's3',
    bucket,
    prefix,
    region: env.text('BACKUP_S3_REGION') ?? 'us-east-1',
    ...(endpoint ? { endpoint } : {}),
    ...(id && secret ? { accessKeyId: id, secretAccessKey: secret } : {}),
  }
}

/** What is backed up, in the order of the old archive. */
function membersOf(env: Variables): Plain[] {
  const optional = new Set(listed(env, 'BACKUP_OPTIONAL'))
  const files = filesOf(env)
  const members = [...postgresOf(env), ...mongodbOf(env), ...foldersOf(env), ...files]
  if (members.length === 0)
    env.fault('BACKUP_POSTGRES', 'something to back up: it, BACKUP_DIRS or BACKUP_FILES', null)
  const twin = members.find((one, index) => members.findIndex(({ name }) => name === one.name) < index)
  const inFiles = files.some(each => each === twin)
  if (twin)
    env.fault(inFiles ? 'BACKUP_FILES' : 'BACKUP_DIRS', 'a name of its own for each', String(twin.name))
  for (const name of optional)
    if (!members.some(each => plainName(String(each.name)) === name))
      env.warnings.push(`BACKUP_OPTIONAL: nothing that is backed up is called "${name}"`)
  return members.map(member =>
    optional.has(plainName(String(member.name))) ? { ...member, optional: true } : member,
  )
}

/** `uploads.tar.gz` is called `uploads` by whoever configures it. */
function plainName(name: string): string {
  return name.replace(/\.tar\.gz$/, '')
}

/** One URI a line, or several on a line; empty lines and comments are passed over. */
function urisIn(env: Variables, variable: string): { uri: string; place: SecretPlace | InlineSecret }[] {
  const text = env.hidden(variable) ?? ''
  const whole = env.secret(variable)
  const uris = text
    .split('\n')
    .filter(line => !line.trim().startsWith('#'))
    .flatMap(line => line.split(/\s+/))
    .filter(uri => uri !== '')
  const where = whole && 'file' in whole ? `the file that ${variable}_FILE names` : variable
  return uris.map((uri, index) => ({
    uri,
    place: whole && text === uri ? whole : inlineSecret(uri, `URI ${index + 1} of ${where}`),
  }))
}

/** Each server, or database, as the folder that mongodump writes. */
function mongodbOf(env: Variables): Plain[] {
  return urisIn(env, 'BACKUP_MONGODB').flatMap(({ uri, place }, index) => {
    const name = index === 0 ? 'mongodb-dump' : `mongodb-dump-${index + 1}`
    if (/^mongodb(\+srv)?:\/\/[^/]/.test(uri))
      return [{ name, source: { type: 'mongodb', uri: place, layout: 'directory' } }]
    env.fault('BACKUP_MONGODB', 'mongodb://user:password@host:port/database', `number ${index + 1} is none`)
    return []
  })
}

function postgresOf(env: Variables): Plain[] {
  const uris = urisIn(env, 'BACKUP_POSTGRES')
  const taken = new Set<string>()
  return uris.flatMap(({ uri, place }, index) => {
    const database = databaseIn(uri)
    if (database === null) {
      env.fault(
        'BACKUP_POSTGRES',
        'postgresql://user:password@host:port/database',
        `number ${index + 1} is none`,
      )
      return []
    }
    let name = `postgres-${database}`
    for (let n = 2; taken.has(name); n++) name = `postgres-${database}-${n}`
    taken.add(name)
    const source = { type: 'postgres', url: place, database, globals: false, allowEmpty: true }
    return [{ name: `${name.replaceAll('/', '-')}.dump`, source }]
  })
}

/** Null for a text that is no address of PostgreSQL. */
function databaseIn(uri: string): string | null {
  if (!/^postgres(ql)?:\/\//.test(uri)) return null
  const [, path = '', query = ''] = /^[^:]+:\/\/[^/?]*(?:\/([^?]*))?(?:\?(.*))?$/s.exec(uri) ?? []
  // As libpq does: what the query says comes last.
  const said = query.split('&').findLast(each => each.startsWith('dbname='))
  try {
    return decodeURIComponent(said?.slice('dbname='.length) ?? path) || 'postgres'
  } catch {
    return null
  }
}

function foldersOf(env: Variables): Plain[] {
  return pairs(env, 'BACKUP_DIRS').map(({ path, name }) => ({
    name: `${name}.tar.gz`,
    gzip: true,
    source: { type: 'files', paths: [path], withName: true },
  }))
}

function filesOf(env: Variables): Plain[] {
  return pairs(env, 'BACKUP_FILES').map(({ path, name }) => ({ name, source: { type: 'file', path } }))
}

/** `path:name, path`: the name is the last part of the path unless it is said. */
function pairs(env: Variables, variable: string): { path: string; name: string }[] {
  return listed(env, variable).flatMap(entry => {
    const [, path = '', said] = /^([^:]+)(?::(.*))?$/.exec(entry) ?? []
    const name = (said ?? path.replace(/\/+$/, '').split('/').at(-1) ?? '').trim()
    if (path.startsWith('/') && /^[^/]+$/.test(name) && name !== '..') return [{ path: path.trim(), name }]
    env.fault(variable, '/path:name, with commas between', entry)
    return []
  })
}

function listed(env: Variables, variable: string): string[] {
  return (env.text(variable) ?? '')
    .split(',')
    .map(entry => entry.trim())
    .filter(entry => entry !== '')
}

const gfs = {
  RECENT: 'last',
  DAILY: 'daily',
  WEEKLY: 'weekly',
  MONTHLY: 'monthly',
  YEARLY: 'yearly',
} as const

/** What is said; when nothing is: what either version of the tool has kept. */
function keepOf(env: Variables): Plain {
  const days = env.integer('BACKUP_RETENTION_DAYS', 1, 36_500)
  const counts = Object.entries(gfs).flatMap(([name, rule]) => {
    const count = env.integer(`BACKUP_RETENTION_${name}`, 0, 36_500)
    return count === undefined ? [] : [[rule, count] as const]
  })
  if (days === undefined && counts.length === 0) return { last: 14, daily: 7, weekly: 4, within: '30 days' }
  const kept = counts.filter(([, count]) => count > 0)
  if (days === undefined && kept.length === 0)
    env.fault('BACKUP_RETENTION_RECENT', 'at least one kind of backup that stays', '0')
  return { ...Object.fromEntries(kept), ...(days === undefined ? {} : { within: `${days} days` }) }
}

function webhooksOf(env: Variables): Plain | null {
  const said = (['success', 'failure'] as const).flatMap(when => {
    const url = env.webhook(`BACKUP_${when.toUpperCase()}_WEBHOOK`)
    return url === undefined ? [] : [[when, url]]
  })
  return said.length === 0 ? null : { ...Object.fromEntries(said), as: 'form' }
}

function containersOf(env: Variables): Plain | null {
  const stop = listed(env, 'BACKUP_STOP_SERVICES')
  const wait = env.integer('BACKUP_STOP_WAIT', 0, 86_400) ?? 2
  const startWait = env.integer('BACKUP_START_WAIT', 0, 86_400) ?? 3
  return stop.length === 0 ? null : { stop, wait: `${wait} s`, startWait: `${startWait} s` }
}
