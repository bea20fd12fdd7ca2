import { literalPattern } from '../../model/key-pattern.ts'
import type { Dialect, Plain } from './dialect.ts'
import type { Variables } from './variables.ts'

/** pg_dump and the globals as one tar, gzip, aespipe, to one key of a bucket that keeps versions. */
export const pgdumpS3: Dialect = {
  name: 'pgdump-s3',
  strong: ['AWS_BACKUP_SCHEDULE_TAG'],
  weak: [['PG_DB', 'AWS_BUCKET']],
  needs: 'PG_HOST, PG_DB, PG_USER, AWS_BUCKET, and the files /backup/.pgpass and /backup/encrypt.key',
  prefixes: ['PG_', 'AWS_B'],
  translate: env => {
    const database = env.required('PG_DB', 'the name of the database')
    const host = env.required('PG_HOST', 'the host of the database')
    return {
      stores: { s3: storeOf(env) },
      jobs: {
        'pgdump-s3': {
          source: sourceOf(env, host, database),
          to: ['s3'],
          // One key for ever: each backup is a version of it, which a lifecycle rule of the bucket lets go.
          key: { name: `${literalPattern(database)}-backup.enc`, suffix: false },
          compression: { gzip: {} },
          encryption: {
            aespipe: {
              keyFile: env.text('ENCRYPT_KEY_FILE') ?? '/backup/encrypt.key',
              unauthenticated: true,
            },
          },
        },
      },
    }
  },
}

function sourceOf(env: Variables, host: string, database: string): Plain {
  const login = {
    type: 'postgres',
    host,
    port: env.integer('PG_PORT', 1, 65_535) ?? 5432,
    user: env.required('PG_USER', 'the user of the database'),
    passfile: env.text('PGPASSFILE') ?? '/backup/.pgpass',
    database,
    allowEmpty: true,
  }
  const folder = `${database.replaceAll('/', '-')}-backup`
  const dump = { ...login, format: 'directory', jobs: 2, globals: false }
  return {
    type: 'archive',
    name: database,
    members: [
      // One key for ever: what lacks the database must not take the place of a whole backup.
      { name: folder, source: dump, required: true },
      { name: `${host.replaceAll('/', '-')}-globals`, source: { ...login, globals: 'only' } },
    ],
  }
}

/** Credentials are found where the AWS tools find them, or in files. */
function storeOf(env: Variables): Plain {
  const endpoint = env.endpoint(
    env.text('AWS_ENDPOINT_URL_S3') === undefined ? 'AWS_ENDPOINT_URL' : 'AWS_ENDPOINT_URL_S3',
  )
  const region = env.text('AWS_DEFAULT_REGION') ?? env.text('AWS_REGION')
  return {
    type: 's3',
    bucket: env.required('AWS_BUCKET', 'the name of the bucket'),
    ...(region ? { region } : {}),
    ...(endpoint ? { endpoint } : {}),
    ...credentialsOf(env),
    tags: { 'backup/schedule': env.text('AWS_BACKUP_SCHEDULE_TAG') ?? '' },
  }
}

/** Only what stands in files: where the AWS tools look, there are none for each. */
function credentialsOf(env: Variables): Plain {
  const accessKeyId = env.secret('AWS_ACCESS_KEY_ID')
  const secretAccessKey = env.secret('AWS_SECRET_ACCESS_KEY')
  const sessionToken = env.secret('AWS_SESSION_TOKEN')
  if (![accessKeyId, secretAccessKey, sessionToken].some(place => place && 'file' in place)) return {}
  if (!secretAccessKey)
    env.fault('AWS_SECRET_ACCESS_KEY', 'the secret that goes with AWS_ACCESS_KEY_ID', null)
  if (!accessKeyId) env.fault('AWS_ACCESS_KEY_ID', 'the key that goes with AWS_SECRET_ACCESS_KEY', null)
  return { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) }
}
