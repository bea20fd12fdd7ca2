import { parseWords, type Span } from '../../model/duration-words.ts'
import type { Dialect, Plain } from './dialect.ts'
import type { SecretPlace, Variables } from './variables.ts'

/** Moonflower: pg_dump, gzip or gpg, S3 with Object Lock and Expires, webhooks. */
export const moonflower: Dialect = {
  name: 'moonflower',
  strong: ['PG_DATABASES'],
  weak: [['S3_BUCKET']],
  needs: 'PG_DATABASES, PG_HOST, PG_USER, PG_PASSWORD, S3_ENDPOINT, S3_BUCKET, S3_ACCESS_KEY, S3_SECRET_KEY',
  prefixes: ['PG_', 'S3_', 'WEBHOOK_', 'ENCRYPTION_'],
  webhooks: webhooksOf,
  translate: env => {
    const encryption = encryptionOf(env)
    const store = storeOf(env)
    const schedule = env.schedule('SCHEDULE')
    const webhooks = webhooksOf(env)
    const keep = env.parsed('S3_EXPIRES_IN', aDuration, spanOrNull)
    return {
      stores: { s3: store },
      jobs: {
        moonflower: {
          source: sourceOf(env),
          to: ['s3'],
          key: { name: '${DB}_%Y-%m-%dT%H:%M:%S.%LZ.sql', timezone: 'UTC' },
          ...env.zone(),
          compression: encryption ? 'none' : { gzip: {} },
          ...(encryption ? { encryption: { gpg: encryption } } : {}),
          ...(keep ? { keep: { within: keep }, undelete: '0 s' } : {}),
          ...(schedule ? { schedule } : {}),
          ...(webhooks ? { webhooks } : {}),
        },
      },
    }
  },
}

function sourceOf(env: Variables): Plain {
  const databases = env
    .required('PG_DATABASES', 'the names of the databases, with spaces between')
    .split(/\s+/)
  return {
    type: 'postgres',
    host: env.required('PG_HOST', 'the host of the database'),
    port: env.integer('PG_PORT', 1, 65_535) ?? 5432,
    user: env.required('PG_USER', 'the user of the database'),
    password: env.requiredSecret('PG_PASSWORD', 'the password of the database'),
    databases: [...new Set(databases)],
    format: 'plain',
    globals: false,
    allowEmpty: true,
  }
}

function storeOf(env: Variables): Plain {
  const lock = env.parsed('S3_GOVERNANCE', aDuration, spanOrNull)
  const expires = env.parsed('S3_EXPIRES_IN', aDuration, spanOrNull)
  // The tool wrote PATH/NAME, so that the root's own path gives keys that begin with a slash.
  const path = (env.text('S3_PATH') ?? '/').replace(/^\//, '').replace(/\/$/, '')
  env.required('S3_ENDPOINT', 'the address of the S3 server: https://s3.example')
  const endpoint = env.endpoint('S3_ENDPOINT')
  return {
    type: 's3',
    ...(endpoint ? { endpoint } : {}),
    region: env.text('S3_REGION') ?? 'us-west-1',
    bucket: env.required('S3_BUCKET', 'the name of the bucket'),
    prefix: `${path}/`,
    ...credentials(env),
    ...(lock ? { lock: { mode: 'governance', for: lock } } : {}),
    ...(expires ? { expires } : {}),
  }
}

/** The reference calls them S3_ACCESS_KEY and S3_SECRET_KEY; the quick start S3_KEY_ID and S3_ACCESS_KEY. */
function credentials(env: Variables): { accessKeyId: SecretPlace; secretAccessKey: SecretPlace } {
  const id = env.secret('S3_KEY_ID')
  const secret = env.secret('S3_SECRET_KEY')
  if (secret || !id)
    return {
      accessKeyId: env.requiredSecret('S3_ACCESS_KEY', 'the id of the S3 key'),
      secretAccessKey: secret ?? env.requiredSecret('S3_SECRET_KEY', 'the secret of the S3 key'),
    }
  return { accessKeyId: id, secretAccessKey: env.requiredSecret('S3_ACCESS_KEY', 'the secret of the S3 key') }
}

const shortestPassphrase = 8

function encryptionOf(env: Variables): Plain | null {
  const passphrase = env.secret('ENCRYPTION_PASSPHRASE')
  const publicKey = env.secret('ENCRYPTION_PUBLIC_KEY')
  const text = env.hidden('ENCRYPTION_PASSPHRASE')
  const name = passphrase && 'file' in passphrase ? 'ENCRYPTION_PASSPHRASE_FILE' : 'ENCRYPTION_PASSPHRASE'
  if (text !== undefined && text.length < shortestPassphrase)
    env.fault(name, `at least ${shortestPassphrase} characters`, `${text.length} of them`)
  if (passphrase && publicKey)
    env.warnings.push('ENCRYPTION_PASSPHRASE and ENCRYPTION_PUBLIC_KEY are both set: the key is not used')
  const compressLevel = 1
  if (passphrase) return { passphrase, compressLevel }
  return publicKey ? { recipients: [publicKey], compressLevel } : null
}

const webhookNames = {
  start: 'WEBHOOK_START',
  success: 'WEBHOOK_SUCCESS',
  failure: 'WEBHOOK_FAILURE',
} as const

function webhooksOf(env: Variables): Plain | null {
  const log = env.text('WEBHOOK_POST_LOGS') !== undefined
  const said = Object.entries(webhookNames).flatMap(([when, name]) => {
    const url = env.webhook(name)
    return url === undefined ? [] : [[when, url]]
  })
  return said.length === 0 ? null : { ...Object.fromEntries(said), ...(log ? { log } : {}) }
}

const aDuration = 'a duration in words that ends before the year 9999, as "30 days", "2 weeks" or "1 month"'

/** The words as they stand, if they are a duration. */
function spanOrNull(text: string): string | null {
  const span: Span | null = parseWords(text)
  return span ? text : null
}
