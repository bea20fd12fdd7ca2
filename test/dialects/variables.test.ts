import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Dialect } from '../../src/config/dialects/dialect.ts'
import { translate } from '../../src/config/dialects/index.ts'
import { moonflower } from '../../src/config/dialects/moonflower.ts'
import { pgdumpS3 } from '../../src/config/dialects/pgdump-s3.ts'
import { rclone } from '../../src/config/dialects/rclone.ts'
import { sidecar } from '../../src/config/dialects/sidecar.ts'
import { Variables } from '../../src/config/dialects/variables.ts'
import type { Failure } from '../../src/model/failure.ts'
import { inherited } from '../../src/stores/rclone/environment.ts'
import { freshFolder } from '../services/index.ts'
import { promised } from './promised.ts'

/** What each variable of the replaced tools does, or the error that it gives: nothing is promised that no row shows. */

type Environment = Readonly<Record<string, string>>

/** A variable, its value, and the place in the configuration where that shows; or the error. */
type Row = readonly [
  name: string,
  value: string,
  place: string | RegExp,
  shows?: unknown,
  beside?: Environment,
]

const age = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'
const inRclone = 'stores.remote.environment'
/** An S3 remote of rclone's that logs in as the tools of AWS do. */
const s3ByChain = {
  RCLONE_CONFIG_STORE_TYPE: 's3',
  RCLONE_CONFIG_STORE_ENV_AUTH: 'true',
}
const ssh = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE9r0v0rGvDJjmkmMXlVJ+oSg5FfNWqJyY2rHcQ0m3vP'

const files: Readonly<Record<string, string>> = {
  '/uris': 'postgresql://u:geheim@h/one\npostgresql://u:geheim@h/two\n',
  '/uri': 'mongodb://u:geheim@h/one\n',
  '/short': 'geheim7\n',
  '/long': 'long enough\n',
  '/url': 'https://hc.example/geheim\n',
}
const readText = (path: string): string | null =>
  path === '/none' ? null : path === '/empty' ? '\n' : (files[path] ?? 'geheim')

/** `jobs.x.source.members.0.name` of a configuration. */
function at(plain: unknown, place: string): unknown {
  return place
    .split('.')
    .reduce<unknown>((inner, key) => (inner as Record<string, unknown> | undefined)?.[key], plain)
}

const tables: readonly { dialect: Dialect; base: Environment; rows: readonly Row[] }[] = [
  {
    dialect: pgdumpS3,
    base: { PG_HOST: 'db', PG_DB: 'shop', PG_USER: 'me', AWS_BUCKET: 'b', AWS_BACKUP_SCHEDULE_TAG: 'daily' },
    rows: [
      ['PG_HOST', 'h', 'jobs.pgdump-s3.source.members.0.source.host', 'h'],
      ['PG_HOST', 'a/b', 'jobs.pgdump-s3.source.members.1.name', 'a-b-globals'],
      ['PG_HOST', '', /PG_HOST: expected the host/],
      ['PG_PORT', '6000', 'jobs.pgdump-s3.source.members.0.source.port', 6000],
      ['PG_PORT', '', 'jobs.pgdump-s3.source.members.0.source.port', 5432],
      ['PG_PORT', '99999', /PG_PORT: expected a whole number from 1 to 65535; found "99999"/],
      ['PG_DB', 'a$DB%Y', 'jobs.pgdump-s3.key.name', 'a$$DB%%Y-backup.enc'],
      ['PG_DB', '', /PG_DB: expected the name/],
      ['PG_USER', 'dump', 'jobs.pgdump-s3.source.members.0.source.user', 'dump'],
      ['PG_USER', '', /PG_USER: expected the user/],
      ['AWS_BUCKET', '"quoted"', 'stores.s3.bucket', 'quoted'],
      ['AWS_BUCKET', ' ', /AWS_BUCKET: expected the name/],
      ['AWS_BACKUP_SCHEDULE_TAG', 'a & b', 'stores.s3.tags', { 'backup/schedule': 'a & b' }],
      ['AWS_BACKUP_SCHEDULE_TAG', '', 'stores.s3.tags', { 'backup/schedule': '' }],
      ['AWS_DEFAULT_REGION', 'eu-west-1', 'stores.s3.region', 'eu-west-1'],
      ['AWS_REGION', 'eu-west-2', 'stores.s3.region', 'eu-west-2'],
      ['AWS_ENDPOINT_URL', 'https://s3.example/', 'stores.s3.endpoint', 'https://s3.example'],
      ['AWS_ENDPOINT_URL', 's3.example', /AWS_ENDPOINT_URL: expected an address/],
      ['AWS_ENDPOINT_URL_S3', 'https://s3.amazonaws.com', 'stores.s3.endpoint', undefined],
      ['AWS_ACCESS_KEY_ID', 'id', 'stores.s3.accessKeyId', undefined],
      [
        'AWS_ACCESS_KEY_ID_FILE',
        '/id',
        'stores.s3.accessKeyId',
        { file: '/id' },
        { AWS_SECRET_ACCESS_KEY: 's' },
      ],
      ['AWS_ACCESS_KEY_ID_FILE', '/id', /AWS_SECRET_ACCESS_KEY: expected the secret/],
      [
        'AWS_SECRET_ACCESS_KEY',
        's',
        'stores.s3.secretAccessKey',
        { env: 'AWS_SECRET_ACCESS_KEY' },
        { AWS_ACCESS_KEY_ID_FILE: '/id' },
      ],
      [
        'AWS_SECRET_ACCESS_KEY_FILE',
        '/s',
        'stores.s3.secretAccessKey',
        { file: '/s' },
        { AWS_ACCESS_KEY_ID: 'i' },
      ],
      [
        'AWS_SESSION_TOKEN',
        't',
        'stores.s3.sessionToken',
        { env: 'AWS_SESSION_TOKEN' },
        { AWS_ACCESS_KEY_ID_FILE: '/id', AWS_SECRET_ACCESS_KEY: 's' },
      ],
      [
        'AWS_SESSION_TOKEN_FILE',
        '/t',
        'stores.s3.sessionToken',
        { file: '/t' },
        { AWS_ACCESS_KEY_ID_FILE: '/id', AWS_SECRET_ACCESS_KEY: 's' },
      ],
      ['PGPASSFILE', '/p', 'jobs.pgdump-s3.source.members.0.source.passfile', '/p'],
      ['ENCRYPT_KEY_FILE', '/k', 'jobs.pgdump-s3.encryption.aespipe.keyFile', '/k'],
    ],
  },
  {
    dialect: rclone,
    base: { CAIRN_ENGINE: 'postgres', BACKUP_DATABASES: 'shop', RCLONE_CONFIG_STORE_TYPE: 'local' },
    rows: [
      ['BACKUP_DATABASES', ' a , b,,a', 'jobs.rclone.source.databases', ['a', 'b']],
      ['BACKUP_DATABASES', '', /BACKUP_DATABASES: expected names/],
      ['BACKUP_ALL', 'true', 'jobs.rclone.source.whole', true],
      ['BACKUP_ALL', 'TRUE', 'jobs.rclone.key.name', 'all_%Y-%m-%dT%H-%M-%SZ.sql'],
      ['BACKUP_ALL', 'false', 'jobs.rclone.source.whole', undefined],
      ['BACKUP_ALL', 'maybe', /BACKUP_ALL: expected "true" or "false"; found "maybe"/],
      ['BACKUP_FILE_NAME', '', 'jobs.rclone.key.name', '${DB}-%Y-%m-%dT%H-%M-%SZ.sql'],
      ['BACKUP_FILE_NAME', 'x/$DB-%d', 'jobs.rclone.key.name', 'x/$DB-%d.sql'],
      ['BACKUP_FILE_NAME', '$$DB-a$b.sql', 'jobs.rclone.key.name', '$$$DB-a$$b.sql'],
      ['BACKUP_FILE_NAME', '/x', /BACKUP_FILE_NAME: expected a path within/],
      ['BACKUP_FILE_NAME', 'x%Q', /BACKUP_FILE_NAME: expected a pattern of strftime's \(%Q is none/],
      ['REMOTE_NAME', ':s3,env_auth:', 'stores.remote.remote', ':s3,env_auth:'],
      ['REMOTE_NAME', ':s3,secret_access_key="geheim', /REMOTE_NAME: expected a name, or a whole connection/],
      ['REMOTE_NAME', "store,pass='geheim", /REMOTE_NAME: expected a name, or a whole connection/],
      ['REMOTE_NAME', '', 'stores.remote.remote', 'store:'],
      ['UPLOAD_PREFIX', 'bucket/db/', 'stores.remote.remote', 'store:bucket/db'],
      ['UPLOAD_PREFIX', '/', 'stores.remote.remote', 'store:/'],
      ['AWS_REGION', 'e-1', 'stores.remote.remote', 'store:'],
      ['AWS_REGION', 'e-1', 'stores.remote.remote', 'store,region="e-1":', s3ByChain],
      ['AWS_REGION', 'e-1', 'stores.remote.remote', 'store:', { ...s3ByChain, RCLONE_CONFIG: '/c' }],
      [
        'AWS_REGION',
        'e',
        'stores.remote.remote',
        ':s3,env_auth,region="e":',
        { REMOTE_NAME: ':s3,env_auth:' },
      ],
      [
        'AWS_REGION',
        'e',
        'stores.remote.remote',
        ':s3,region=x,env_auth:',
        { REMOTE_NAME: ':s3,region=x,env_auth' },
      ],
      ['AWS_DEFAULT_REGION', 'e-2', 'stores.remote.remote', 'store,region="e-2":', s3ByChain],
      ['RCLONE_CONFIG_STORE_TYPE', '', /RCLONE_CONFIG_STORE_TYPE: expected what kind of store "store" is/],
      ['RCLONE_CONFIG_STORE_TYPE', 'b2', 'stores.remote.remote', 'store:', { ...s3ByChain, AWS_REGION: 'e' }],
      [
        'RCLONE_CONFIG_STORE_ENV_AUTH',
        '',
        'stores.remote.remote',
        'store:',
        { ...s3ByChain, AWS_REGION: 'e' },
      ],
      [
        'RCLONE_S3_ENV_AUTH',
        'true',
        'stores.remote.remote',
        'store,region="e":',
        { RCLONE_CONFIG_STORE_TYPE: 's3', AWS_REGION: 'e' },
      ],
      [
        'RCLONE_CONFIG_STORE_REGION',
        'x',
        'stores.remote.remote',
        'store:',
        { ...s3ByChain, AWS_REGION: 'e' },
      ],
      ['RCLONE_S3_REGION', 'x', 'stores.remote.remote', 'store:', { ...s3ByChain, AWS_REGION: 'e' }],
      ['AWS_ACCESS_KEY_ID_FILE', '/k', inRclone, { AWS_ACCESS_KEY_ID: { file: '/k' } }],
      ['AWS_SECRET_ACCESS_KEY_FILE', '/k', inRclone, { AWS_SECRET_ACCESS_KEY: { file: '/k' } }],
      ['AWS_SECRET_ACCESS_KEY_FILE', '/k', inRclone, undefined, { AWS_SECRET_ACCESS_KEY: 'x' }],
      ['AWS_SECRET_ACCESS_KEY_FILE', '/none', inRclone, undefined],
      ['RCLONE_CONFIG_STORE_PASS_FILE', '/k', inRclone, { RCLONE_CONFIG_STORE_PASS: { file: '/k' } }],
      ['RCLONE_CONFIG_MY_NAS_PASS_FILE', '/k', inRclone, { RCLONE_CONFIG_MY_NAS_PASS: { file: '/k' } }],
      ['RCLONE_CONFIG_PASS_FILE', '/k', inRclone, { RCLONE_CONFIG_PASS: { file: '/k' } }],
      ['RCLONE_CONFIG_STORE_SAS_URL_FILE', '/k', inRclone, { RCLONE_CONFIG_STORE_SAS_URL: { file: '/k' } }],
      ['RCLONE_CONFIG_STORE_KEY_FILE', '/k', inRclone, undefined, { RCLONE_CONFIG_STORE_TYPE: 'sftp' }],
      ['RCLONE_CONFIG_STORE_KEY_FILE', '/k', inRclone, undefined],
      [
        'RCLONE_CONFIG_STORE_KEY_FILE',
        '/k',
        inRclone,
        { RCLONE_CONFIG_STORE_KEY: { file: '/k' } },
        { RCLONE_CONFIG_STORE_TYPE: 'azureblob' },
      ],
      [
        'RCLONE_CONFIG_STORE_KEY_FILE_PASS_FILE',
        '/k',
        inRclone,
        { RCLONE_CONFIG_STORE_KEY_FILE_PASS: { file: '/k' } },
      ],
      ['RCLONE_S3_SSE_CUSTOMER_KEY_FILE', '/k', inRclone, { RCLONE_S3_SSE_CUSTOMER_KEY: { file: '/k' } }],
      ['RCLONE_CONFIG_STORE_SSE_CUSTOMER_KEY_FILE', '/k', inRclone, undefined],
      ['RCLONE_CONFIG_STORE_KNOWN_HOSTS_FILE', '/k', inRclone, undefined],
      ['RCLONE_CONFIG_STORE_SERVICE_ACCOUNT_FILE', '/k', inRclone, undefined],
      ['AWS_WEB_IDENTITY_TOKEN_FILE', '/k', inRclone, undefined],
      // The variables themselves reach rclone as they are.
      ...[
        ...['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'RCLONE_CONFIG_PASS', 'RCLONE_CONFIG_MY_NAS_PASS'],
        ...['PASS', 'KEY', 'SAS_URL', 'KEY_FILE_PASS', 'SSE_CUSTOMER_KEY'].map(
          each => `RCLONE_CONFIG_STORE_${each}`,
        ),
        'RCLONE_S3_SSE_CUSTOMER_KEY',
      ].map((name): Row => [name, 'x', inRclone, undefined]),
      ['RCLONE_CONFIG', '/rclone.conf', 'stores.remote.config', '/rclone.conf'],
      ['RCLONE_CONFIG', '', 'stores.remote.config', '/dev/null'],
      ['ENCRYPT_RECIPIENTS', `${ssh} me@x\n${age}`, 'jobs.rclone.encryption.age.recipients', [ssh, age]],
      ['ENCRYPT_RECIPIENTS', `${ssh} Me Myself ${age}`, 'jobs.rclone.encryption.age.recipients', [ssh, age]],
      ['ENCRYPT_RECIPIENTS', `${ssh}\n${ssh}`, 'jobs.rclone.encryption.age.recipients', [ssh, ssh]],
      ['ENCRYPT_RECIPIENTS', 'AGE-SECRET-KEY-geheim', /ENCRYPT_RECIPIENTS: expected public keys/],
      ['ENCRYPT_RECIPIENTS', `${age} agel_typo`, /ENCRYPT_RECIPIENTS: expected .* found "agel_typo"/],
      ['ENCRYPT_RECIPIENTS', `${ssh} me@x agel_typo`, /ENCRYPT_RECIPIENTS: expected .* found "agel_typo"/],
      ['ENCRYPT_RECIPIENTS', `${age} ssh-ed25519`, /ENCRYPT_RECIPIENTS: expected .* found "ssh-ed25519"/],
      ['ENCRYPT_RECIPIENTS', `ssh-ed25519 ${age}`, /ENCRYPT_RECIPIENTS: expected .* found "ssh-ed25519 age1/],
      ['ENCRYPT_RECIPIENTS_FILE', '/id.pub', 'jobs.rclone.encryption.age.recipientsFile', '/id.pub'],
      ['CAIRN_ENGINE', 'mariadb', 'jobs.rclone.source.type', 'mariadb'],
      ['CAIRN_ENGINE', 'oracle', /CAIRN_ENGINE: expected/],
      ['PGHOST', 'db', 'jobs.rclone.source.type', 'postgres', { CAIRN_ENGINE: '' }],
      ['PGHOST', 'db', /CAIRN_ENGINE: expected .*both/, undefined, { CAIRN_ENGINE: '', MYSQL_HOST: 'db' }],
      ['PGHOSTADDR', '::1', 'jobs.rclone.source.type', 'postgres', { CAIRN_ENGINE: '' }],
      ['PGSERVICE', 'x', 'jobs.rclone.source.type', 'postgres', { CAIRN_ENGINE: '' }],
      ['PGPASSWORD', 'x', 'jobs.rclone.source.password', undefined],
      ['PGPASSWORD_FILE', '/none', /PGPASSWORD_FILE: expected a file .* found "\/none"/],
      ['PGPASSWORD_FILE', '/pw', 'jobs.rclone.source.password', { file: '/pw' }],
      ['MYSQL_HOST', 'db', 'jobs.rclone.source.fallbackHost', 'db', { CAIRN_ENGINE: '' }],
      ['MYSQL_PWD', 'x', 'jobs.rclone.source.password', { env: 'MYSQL_PWD' }, { CAIRN_ENGINE: 'mariadb' }],
      ['MYSQL_PWD_FILE', '/pw', 'jobs.rclone.source.password', { file: '/pw' }, { CAIRN_ENGINE: 'mariadb' }],
      ['MYSQL_PWD', 'x', 'jobs.rclone.source.type', 'mariadb', { CAIRN_ENGINE: '' }],
      ['MYSQL_TCP_PORT', '3307', 'jobs.rclone.source.type', 'mariadb', { CAIRN_ENGINE: '' }],
      ['MYSQL_PWD_FILE', '/pw', 'jobs.rclone.source.type', 'mariadb', { CAIRN_ENGINE: '' }],
      ['MYSQL_TCP_PORT', '3307', 'jobs.rclone.source.type', 'postgres', { CAIRN_ENGINE: '', PGHOST: 'db' }],
      ['RCLONE_CONFIG_STORE_SMB_HOST', 'nas', 'stores.remote.options', { type: 'smb', host: 'nas' }],
      ['RCLONE_CONFIG_STORE_SMB_PORT', '446', 'stores.remote.options.port', '446'],
      ['RCLONE_CONFIG_STORE_SMB_USER', 'me', 'stores.remote.options.user', 'me'],
      ['RCLONE_CONFIG_STORE_SMB_DOMAIN', 'w', 'stores.remote.options.domain', 'w'],
      [
        'RCLONE_CONFIG_STORE_SMB_PASS',
        'x',
        'stores.remote.clear',
        { pass: { env: 'RCLONE_CONFIG_STORE_SMB_PASS' } },
      ],
      ['RCLONE_CONFIG_STORE_SMB_PASS_FILE', '/x', 'stores.remote.clear', { pass: { file: '/x' } }],
    ],
  },
  {
    dialect: moonflower,
    base: {
      ...{
        PG_DATABASES: 'shop',
        PG_HOST: 'db',
        PG_USER: 'me',
        PG_PASSWORD: 'x',
        S3_ENDPOINT: 'https://s3.example',
      },
      ...{ S3_BUCKET: 'b', S3_ACCESS_KEY: 'k', S3_SECRET_KEY: 's' },
    },
    rows: [
      ['TZ', 'Asia/Tokyo', 'jobs.moonflower.timezone', 'Asia/Tokyo'],
      ['TZ', ':/usr/share/zoneinfo/Asia/Tokyo', 'jobs.moonflower.timezone', 'Asia/Tokyo'],
      ['TZ', 'UTC0', 'jobs.moonflower.timezone', 'UTC'],
      ['TZ', '/etc/localtime', 'jobs.moonflower.timezone', undefined],
      ['TZ', 'Mars/Olympus', /TZ: expected a time zone/],
      ['PG_DATABASES', ' a \t b\na ', 'jobs.moonflower.source.databases', ['a', 'b']],
      ['PG_DATABASES', '', /PG_DATABASES: expected/],
      ['PG_HOST', 'h', 'jobs.moonflower.source.host', 'h'],
      ['PG_HOST', '', /PG_HOST: expected/],
      ['PG_PORT', '1', 'jobs.moonflower.source.port', 1],
      ['PG_PORT', 'http', /PG_PORT: expected/],
      ['PG_PORT', 'tcp://10.0.0.1:5432', 'jobs.moonflower.source.port', 5432],
      ['PG_USER', 'u', 'jobs.moonflower.source.user', 'u'],
      ['PG_USER', '', /PG_USER: expected/],
      ['PG_PASSWORD', 'geheim', 'jobs.moonflower.source.password', { env: 'PG_PASSWORD' }],
      ['PG_PASSWORD', '', /PG_PASSWORD: expected .*PG_PASSWORD_FILE/],
      ['PG_PASSWORD_FILE', '/pw', 'jobs.moonflower.source.password', { file: '/pw' }, { PG_PASSWORD: '' }],
      ['S3_ENDPOINT', '', /S3_ENDPOINT: expected/],
      ['S3_ENDPOINT', 's3.acme.foo.bar', /S3_ENDPOINT: expected an address/],
      ['S3_ENDPOINT', 'https://s3.amazonaws.com', 'stores.s3.endpoint', undefined],
      ['S3_ENDPOINT', 'http://127.0.0.1:9000', 'stores.s3.endpoint', 'http://127.0.0.1:9000'],
      ['S3_REGION', '', 'stores.s3.region', 'us-west-1'],
      ['S3_REGION', 'x', 'stores.s3.region', 'x'],
      ['S3_BUCKET', 'c', 'stores.s3.bucket', 'c'],
      ['S3_BUCKET', '', /S3_BUCKET: expected/],
      ['S3_PATH', '/a/b/', 'stores.s3.prefix', 'a/b/'],
      ['S3_PATH', '', 'stores.s3.prefix', '/'],
      ['S3_KEY_ID', 'id', 'stores.s3.accessKeyId', { env: 'S3_KEY_ID' }, { S3_SECRET_KEY: '' }],
      ['S3_KEY_ID_FILE', '/id', 'stores.s3.secretAccessKey', { env: 'S3_ACCESS_KEY' }, { S3_SECRET_KEY: '' }],
      ['S3_ACCESS_KEY', 'k', 'stores.s3.accessKeyId', { env: 'S3_ACCESS_KEY' }],
      ['S3_ACCESS_KEY_FILE', '/k', 'stores.s3.accessKeyId', { file: '/k' }, { S3_ACCESS_KEY: '' }],
      ['S3_SECRET_KEY', '', /S3_SECRET_KEY: expected/],
      ['S3_SECRET_KEY_FILE', '/s', 'stores.s3.secretAccessKey', { file: '/s' }, { S3_SECRET_KEY: '' }],
      ['S3_GOVERNANCE', 'a month', 'stores.s3.lock', { mode: 'governance', for: 'a month' }],
      ['S3_GOVERNANCE', 'next monday', /S3_GOVERNANCE: expected a duration/],
      ['S3_EXPIRES_IN', '2 weeks', 'stores.s3.expires', '2 weeks'],
      ['S3_EXPIRES_IN', '30 days', 'jobs.moonflower.keep', { within: '30 days' }],
      ['S3_EXPIRES_IN', '99999 years', /S3_EXPIRES_IN: expected a duration .* before the year 9999/],
      ['WEBHOOK_START', 'https://x.example/a', 'jobs.moonflower.webhooks.start', { env: 'WEBHOOK_START' }],
      ['WEBHOOK_START_FILE', '/url', 'jobs.moonflower.webhooks.start', { file: '/url' }],
      [
        'WEBHOOK_SUCCESS',
        'https://x.example/a',
        'jobs.moonflower.webhooks.success',
        { env: 'WEBHOOK_SUCCESS' },
      ],
      ['WEBHOOK_SUCCESS_FILE', '/url', 'jobs.moonflower.webhooks.success', { file: '/url' }],
      ['WEBHOOK_FAILURE', 'ftp://geheim', /WEBHOOK_FAILURE: expected an address/],
      ['WEBHOOK_FAILURE_FILE', '/url', 'jobs.moonflower.webhooks.failure', { file: '/url' }],
      [
        'WEBHOOK_POST_LOGS',
        '1',
        'jobs.moonflower.webhooks.log',
        true,
        { WEBHOOK_START: 'https://x.example' },
      ],
      [
        'ENCRYPTION_PASSPHRASE',
        'long enough',
        'jobs.moonflower.encryption.gpg.passphrase',
        { env: 'ENCRYPTION_PASSPHRASE' },
      ],
      [
        'ENCRYPTION_PASSPHRASE',
        'geheim7',
        /ENCRYPTION_PASSPHRASE: expected at least 8 characters; found "7 of them"/,
      ],
      ['ENCRYPTION_PASSPHRASE_FILE', '/long', 'jobs.moonflower.encryption.gpg.passphrase', { file: '/long' }],
      [
        'ENCRYPTION_PASSPHRASE_FILE',
        '/short',
        /ENCRYPTION_PASSPHRASE_FILE: expected at least 8 characters; found "7/,
      ],
      ['ENCRYPTION_PASSPHRASE_FILE', '/none', /ENCRYPTION_PASSPHRASE_FILE: expected a file that can be read/],
      [
        'ENCRYPTION_PUBLIC_KEY',
        'AAAA',
        'jobs.moonflower.encryption.gpg.recipients',
        [{ env: 'ENCRYPTION_PUBLIC_KEY' }],
      ],
      ['ENCRYPTION_PUBLIC_KEY_FILE', '/k', 'jobs.moonflower.encryption.gpg.recipients', [{ file: '/k' }]],
      ['SCHEDULE', '0 1 * * *', 'jobs.moonflower.schedule', '0 1 * * *'],
      ['SCHEDULE', '*/10 0 1 * * *', 'jobs.moonflower.schedule', '*/10 0 1 * * *'],
      ['SCHEDULE', 'nightly', /SCHEDULE: expected a schedule of cron/],
    ],
  },
  {
    dialect: sidecar,
    base: { BACKUP_NAME: 'app', BACKUP_LOCAL_PATH: '/b', BACKUP_DIRS: '/data' },
    rows: [
      ['BACKUP_NAME', 'a-${DB}-50%', 'jobs.sidecar.key.name', 'a-$${DB}-50%%-%Y-%m-%d-%H%M%S.tar'],
      ['BACKUP_NAME', 'a/b', /BACKUP_NAME: expected a name without/],
      ['BACKUP_NAME', '', /BACKUP_NAME: expected a name/],
      ['BACKUP_LOCAL_PATH', '/x/', 'stores.local.path', '/x/app'],
      ['BACKUP_LOCAL_PATH', '', /BACKUP_LOCAL_PATH: expected the folder/],
      ['BACKUP_LOCAL_PATH', 'backups', /BACKUP_LOCAL_PATH: expected a path that begins with "\/"/],
      [
        'BACKUP_ENCRYPTION_KEY',
        'x',
        'jobs.sidecar.encryption.gpg.passphrase',
        { env: 'BACKUP_ENCRYPTION_KEY' },
      ],
      ['BACKUP_ENCRYPTION_KEY', '', 'jobs.sidecar.encryption', 'none'],
      ['BACKUP_ENCRYPTION_KEY_FILE', '/k', 'jobs.sidecar.encryption.gpg.passphrase', { file: '/k' }],
      ['BACKUP_POSTGRES', 'postgres://u:p@h/d', 'jobs.sidecar.source.members.0.name', 'postgres-d.dump'],
      [
        'BACKUP_POSTGRES',
        'postgres://u:p@h/d',
        'jobs.sidecar.source.members.0.source.url',
        { env: 'BACKUP_POSTGRES' },
      ],
      ['BACKUP_POSTGRES', 'mysql://u:geheim@h/d', /BACKUP_POSTGRES: expected postgresql/],
      ['BACKUP_POSTGRES_FILE', '/uris', 'jobs.sidecar.source.members.1.name', 'postgres-two.dump'],
      [
        'BACKUP_POSTGRES_FILE',
        '/none',
        /BACKUP_POSTGRES_FILE: expected a file that can be read, and holds something; found "\/none"/,
      ],
      [
        'BACKUP_ENCRYPTION_KEY_FILE',
        '/none',
        /BACKUP_ENCRYPTION_KEY_FILE: expected a file .* found "\/none"/,
      ],
      [
        'BACKUP_ENCRYPTION_KEY_FILE',
        '/empty',
        /BACKUP_ENCRYPTION_KEY_FILE: expected a file .* found "\/empty"/,
      ],
      ['BACKUP_MONGODB', 'mongodb://h', 'jobs.sidecar.source.members.0.name', 'mongodb-dump'],
      ['BACKUP_MONGODB', 'http://u:geheim@h', /BACKUP_MONGODB: expected mongodb/],
      ['BACKUP_MONGODB_FILE', '/uri', 'jobs.sidecar.source.members.0.source.uri', { file: '/uri' }],
      ['BACKUP_DIRS', '/a:x, /b', 'jobs.sidecar.source.members.1.name', 'b.tar.gz'],
      ['BACKUP_DIRS', 'a:x', /BACKUP_DIRS: expected/],
      ['BACKUP_DIRS', '/a:x,/b:x', /BACKUP_DIRS: expected a name of its own for each; found "x.tar.gz"/],
      ['BACKUP_FILES', '/a:x,/b:x', /BACKUP_FILES: expected a name of its own for each; found "x"/],
      ['BACKUP_FILES', '/a/x.db:y', 'jobs.sidecar.source.members.1.name', 'y'],
      ['BACKUP_FILES', '/a:x/y', /BACKUP_FILES: expected/],
      ['BACKUP_OPTIONAL', 'data', 'jobs.sidecar.source.members.0.optional', true],
      ['BACKUP_SCHEDULE', '0 */6 * * *', 'jobs.sidecar.schedule', '0 */6 * * *'],
      ['BACKUP_SCHEDULE', '', 'serve.idle', true],
      ['BACKUP_SCHEDULE', '61 * * * *', /BACKUP_SCHEDULE: expected a schedule of cron/],
      ['BACKUP_S3_BUCKET', 'b', 'stores.s3.bucket', 'b'],
      ['BACKUP_S3_BUCKET', 'b', 'stores.s3.prefix', 'app'],
      [
        'BACKUP_S3_ENDPOINT',
        'https://s3.amazonaws.com/',
        'stores.s3.endpoint',
        undefined,
        { BACKUP_S3_BUCKET: 'b' },
      ],
      [
        'BACKUP_S3_ENDPOINT',
        'https://x.example/',
        'stores.s3.endpoint',
        'https://x.example',
        { BACKUP_S3_BUCKET: 'b' },
      ],
      [
        'BACKUP_S3_ENDPOINT',
        'minio:9000',
        /BACKUP_S3_ENDPOINT: expected/,
        undefined,
        { BACKUP_S3_BUCKET: 'b' },
      ],
      ['BACKUP_S3_REGION', '', 'stores.s3.region', 'us-east-1', { BACKUP_S3_BUCKET: 'b' }],
      ['BACKUP_S3_REGION', 'x', 'stores.s3.region', 'x', { BACKUP_S3_BUCKET: 'b' }],
      ['BACKUP_S3_ACCESS_KEY', 'k', /BACKUP_S3_SECRET_KEY: expected/, undefined, { BACKUP_S3_BUCKET: 'b' }],
      [
        'BACKUP_S3_ACCESS_KEY_FILE',
        '/k',
        'stores.s3.accessKeyId',
        { file: '/k' },
        { BACKUP_S3_BUCKET: 'b', BACKUP_S3_SECRET_KEY: 's' },
      ],
      ['BACKUP_S3_SECRET_KEY', 's', /BACKUP_S3_ACCESS_KEY: expected/, undefined, { BACKUP_S3_BUCKET: 'b' }],
      [
        'BACKUP_S3_SECRET_KEY_FILE',
        '/s',
        'stores.s3.secretAccessKey',
        { file: '/s' },
        { BACKUP_S3_BUCKET: 'b', BACKUP_S3_ACCESS_KEY: 'k' },
      ],
      ['BACKUP_STOP_SERVICES', 'a, b', 'jobs.sidecar.containers.stop', ['a', 'b']],
      ['BACKUP_STOP_WAIT', '0', 'jobs.sidecar.containers.wait', '0 s', { BACKUP_STOP_SERVICES: 'a' }],
      ['BACKUP_STOP_WAIT', '', 'jobs.sidecar.containers.wait', '2 s', { BACKUP_STOP_SERVICES: 'a' }],
      ['BACKUP_STOP_WAIT', '2s', /BACKUP_STOP_WAIT: expected/],
      ['BACKUP_START_WAIT', '7', 'jobs.sidecar.containers.startWait', '7 s', { BACKUP_STOP_SERVICES: 'a' }],
      ['BACKUP_START_WAIT', '-1', /BACKUP_START_WAIT: expected/],
      [
        'BACKUP_SUCCESS_WEBHOOK',
        'https://x.example',
        'jobs.sidecar.webhooks.success',
        { env: 'BACKUP_SUCCESS_WEBHOOK' },
      ],
      ['BACKUP_SUCCESS_WEBHOOK_FILE', '/url', 'jobs.sidecar.webhooks.success', { file: '/url' }],
      ['BACKUP_FAILURE_WEBHOOK', 'hc.example/geheim', /BACKUP_FAILURE_WEBHOOK: expected/],
      ['BACKUP_FAILURE_WEBHOOK_FILE', '/url', 'jobs.sidecar.webhooks.failure', { file: '/url' }],
      ['BACKUP_RETENTION_DAYS', '90', 'jobs.sidecar.keep', { within: '90 days' }],
      ['BACKUP_RETENTION_DAYS', '1.5', /BACKUP_RETENTION_DAYS: expected/],
      ['BACKUP_RETENTION_RECENT', '3', 'jobs.sidecar.keep', { last: 3 }],
      ['BACKUP_RETENTION_RECENT', '0', /BACKUP_RETENTION_RECENT: expected at least one/],
      ['BACKUP_RETENTION_DAILY', '3', 'jobs.sidecar.keep', { daily: 3 }],
      ['BACKUP_RETENTION_WEEKLY', '3', 'jobs.sidecar.keep', { weekly: 3 }],
      ['BACKUP_RETENTION_MONTHLY', '3', 'jobs.sidecar.keep', { monthly: 3 }],
      [
        'BACKUP_RETENTION_YEARLY',
        '3',
        'jobs.sidecar.keep',
        { yearly: 3, within: '5 days' },
        { BACKUP_RETENTION_DAYS: '5' },
      ],
      ['BACKUP_DEBUG', 'loud', /BACKUP_DEBUG: expected "true" or "false"/],
      ['TZ', 'America/New_York', 'jobs.sidecar.timezone', 'America/New_York'],
      ['TZ', 'Mars/Olympus', /TZ: expected a time zone/],
    ],
  },
]

for (const { dialect, base, rows } of tables) {
  test(`${dialect.name}: what each of its variables does, or the error that it gives`, () => {
    for (const [name, value, place, shows, beside] of rows) {
      const env = { CAIRN_DIALECT: dialect.name, ...base, ...beside, [name]: value }
      const row = `${name}=${value}`
      if (typeof place === 'string')
        assert.deepEqual(at(translate(env, [], readText).plain, place), shows, row)
      else assert.throws(() => translate(env, [], readText), isUsage(place), row)
    }
  })
}

function isUsage(expected: RegExp) {
  return (error: Error): boolean => {
    assert.equal((error as Error & { exit: number }).exit, 2, error.stack)
    assert.doesNotMatch(error.message, /geheim/)
    assert.match(error.message, expected)
    return true
  }
}

test('no variable is looked at of which no row shows what it does', () => {
  for (const { dialect, base, rows } of tables) {
    const known = rows.flatMap(([name, value, , , beside]) => {
      const variables = new Variables({ ...base, ...beside, [name]: value }, readText)
      dialect.translate(variables, [])
      return [...variables.known]
    })
    const shown = new Set(rows.map(([name]) => name))
    assert.deepEqual([...new Set(known)].filter(name => !shown.has(name)).sort(), [], dialect.name)
  }
})

/** Variables that the programs and libraries read themselves, and the real runs that have them. */
const inRuns: Readonly<Record<string, string>> = {
  ...{ PGPORT: 'rclone.test.ts', PGUSER: 'rclone.test.ts', MYSQL_TCP_PORT: 'arguments.test.ts' },
  ...{ PGPASSFILE: 'pgdump-s3.test.ts', AWS_SECRET_ACCESS_KEY: 'pgdump-s3.test.ts' },
}

test('every variable that a README promises is shown by a row, by a run, or reaches rclone as it is', () => {
  for (const { dialect, rows } of tables) {
    const shown = new Set(rows.map(([name]) => name))
    for (const name of promised[dialect.name as keyof typeof promised].filter(each => !shown.has(each))) {
      const run = inRuns[name]
      if (run !== undefined)
        assert.match(readFileSync(join(import.meta.dirname, run), 'utf8'), new RegExp(`\\b${name}\\b`), name)
      else assert.deepEqual(Object.keys(inherited({ [name]: '"as it is"' })), [name], name)
    }
  }
})

test('rclone gets the whole environment, but for what is ours, the databases or any program has', () => {
  const credentials = ['IDENTITY_ENDPOINT', 'IDENTITY_HEADER', 'MSI_SECRET', 'ST_AUTH', 'OCI_CONFIG_FILE']
  const more = ['KUBERNETES_SERVICE_HOST', 'CLOUDSDK_CONFIG', 'TZ', 'HOME', 'GOMAXPROCS', 'https_proxy']
  const passed = [...credentials, ...more, 'AWS_PROFILE', 'OS_PASSWORD', 'SSL_CERT_DIR', 'RCLONE_CONFIG_PASS']
  const ours = [
    'CAIRN_CONFIG',
    'BACKUP_S3_SECRET_KEY',
    'ENCRYPTION_PASSPHRASE',
    'S3_SECRET_KEY',
    'WEBHOOK_START',
  ]
  const databases = [
    'PGPASSWORD',
    'PG_PASSWORD',
    'MYSQL_PWD',
    'MARIADB_ROOT_PASSWORD',
    'MONGO_URL',
    'POSTGRES_PASSWORD',
  ]
  const others = [
    'PATH',
    'LC_ALL',
    'LANG',
    'TMPDIR',
    'PWD',
    'SHLVL',
    '_',
    'NODE_OPTIONS',
    'npm_config_x',
    'LD_PRELOAD',
  ]
  const kept = [...ours, ...databases, ...others, 'RCLONE_RC_ADDR', 'RCLONE_DRY_RUN']
  const env = inherited(Object.fromEntries([...passed, ...kept].map(name => [name, 'geheim'])))
  assert.deepEqual(Object.keys(env).sort(), passed.toSorted())
  for (const name of ['IDENTITY_HEADER', 'MSI_SECRET', 'OS_PASSWORD', 'ST_AUTH', 'RCLONE_CONFIG_PASS'])
    assert.equal(String(env[name]), '***', name)
})

test('whose server it is: the variables of its host, else the arguments, else other variables', () => {
  const engineOf = (args: readonly string[], more: Environment = {}): unknown =>
    at(
      translate({ BACKUP_DATABASES: 'a', REMOTE_NAME: ':local', ...more }, args, readText).plain,
      'jobs.rclone.source.type',
    )
  for (const args of [
    '--user=root --host=db',
    '-uroot -hdb',
    '--password=geheim -h db',
    '--skip-ssl',
    '-uroot -d -w x',
    '--defaults-file=/x',
  ])
    assert.equal(engineOf(args.split(' ')), 'mariadb', args)
  for (const args of ['-U me -h db', '--username=me', '--no-owner'])
    assert.equal(engineOf(args.split(' ')), 'postgres', args)
  assert.equal(engineOf(['-U', 'me'], { MYSQL_PWD: 'x' }), 'postgres')
  assert.equal(engineOf(['--user=me'], { PGHOST: 'db' }), 'postgres')
  for (const args of ['-h db', '--no-owner --skip-ssl'])
    assert.throws(() => engineOf(args.split(' ')), isUsage(/CAIRN_ENGINE: expected/), args)
})

test('empty variables count as unset, what Kubernetes injects is passed over, and what is misspelt is told', () => {
  const injected = {
    ...{ BACKUP_PORT: 'tcp://10.0.0.1:80', BACKUP_SERVICE_HOST: '10.0.0.1', BACKUP_SERVICE_PORT: '80' },
    ...{ BACKUP_PORT_80_TCP: 'tcp://10.0.0.1:80', BACKUP_PORT_80_TCP_ADDR: '10.0.0.1', BACKUP_FILE: '' },
    ...{ BACKUP_SERVICE_PORT_HTTP: '80', BACKUP_PORT_80_TCP_PROTO: 'tcp', BACKUP_PORT_80_TCP_PORT: '80' },
  }
  const env = { BACKUP_NAME: "'app'", BACKUP_LOCAL_PATH: '"/b"', BACKUP_DIRS: '/data', ...injected }
  const { warnings, dialect } = translate({ ...env, PG_DATABASES: '', BACKUP_DATABASES: ' ' }, [])
  assert.deepEqual([dialect, warnings], ['sidecar', []])
  assert.deepEqual(translate({ ...env, BACKUP_OPTIONAL: 'data, date' }, []).warnings, [
    'BACKUP_OPTIONAL: nothing that is backed up is called "date"',
  ])
  assert.deepEqual(translate({ ...env, BACKUP_LOCALPATH: 'x' }, []).warnings, [
    'BACKUP_LOCALPATH means nothing; did you mean BACKUP_LOCAL_PATH?',
  ])
})

test('a secret and its file at once: the variable wins, and that is said once; BACKUP_DEBUG is --verbose', () => {
  const env = { BACKUP_NAME: 'app', BACKUP_LOCAL_PATH: '/b', BACKUP_DIRS: '/d', BACKUP_DEBUG: 'true' }
  const both = { BACKUP_POSTGRES: 'postgresql://h/a', BACKUP_POSTGRES_FILE: '/uris' }
  const { plain, warnings, isVerbose } = translate({ ...env, ...both }, [], readText)
  assert.equal(at(plain, 'jobs.sidecar.source.members.0.name'), 'postgres-a.dump')
  assert.deepEqual(warnings, ['BACKUP_POSTGRES and BACKUP_POSTGRES_FILE are both set: the file is not read'])
  assert.equal(isVerbose, true)
  assert.deepEqual(translate(env, ['--geheim'], readText).warnings, [
    'arguments mean nothing to the dialect sidecar: they are ignored',
  ])
})

const recognised = {
  sidecar: { BACKUP_NAME: 'app', BACKUP_LOCAL_PATH: '/b', BACKUP_DIRS: '/data' },
  rclone: { BACKUP_DATABASES: 'shop', PGHOST: 'db', RCLONE_CONFIG_STORE_TYPE: 'local' },
  moonflower: {
    ...{ PG_DATABASES: 'shop', PG_HOST: 'db', PG_USER: 'u', PG_PASSWORD: 'geheim' },
    ...{ S3_ENDPOINT: 'https://s3', S3_BUCKET: 'b', S3_ACCESS_KEY: 'k', S3_SECRET_KEY: 'geheim' },
  },
  'pgdump-s3': {
    ...{ AWS_BACKUP_SCHEDULE_TAG: 'daily', PG_DB: 'shop', PG_HOST: 'db', PG_USER: 'u', AWS_BUCKET: 'b' },
  },
} as const

test('a complete set of variables beats an incomplete one, and what is ignored is named, with the reason', () => {
  const { sidecar, rclone, moonflower, 'pgdump-s3': pgdump } = recognised
  const cases: [Environment, string, string[]][] = [
    [sidecar, 'sidecar', []],
    [
      { ...sidecar, PG_DB: 'shop', AWS_BUCKET: 'b' },
      'sidecar',
      ["PG_DB and AWS_BUCKET is not taken for pgdump-s3's"],
    ],
    [
      { ...sidecar, BACKUP_DATABASES: 'shop' },
      'sidecar',
      ["BACKUP_DATABASES is not taken for rclone's: RCLONE_CONFIG_STORE_TYPE, CAIRN_ENGINE are not set"],
    ],
    [
      { ...rclone, BACKUP_NAME: 'app' },
      'rclone',
      ["BACKUP_NAME is not taken for sidecar's: BACKUP_LOCAL_PATH, BACKUP_POSTGRES are not set"],
    ],
    [
      { ...moonflower, AWS_BACKUP_SCHEDULE_TAG: 'x' },
      'moonflower',
      ["AWS_BACKUP_SCHEDULE_TAG is not taken for pgdump-s3's: PG_DB, AWS_BUCKET are not set"],
    ],
    [{ ...moonflower, ...rclone, CAIRN_DIALECT: 'rclone' }, 'rclone', []],
    // Weak ones are compared in the same way where there are no others.
    [
      { ...pgdump, AWS_BACKUP_SCHEDULE_TAG: '', UPLOAD_PREFIX: 'x' },
      'pgdump-s3',
      [
        "UPLOAD_PREFIX is not taken for rclone's: BACKUP_DATABASES, RCLONE_CONFIG_STORE_TYPE, CAIRN_ENGINE are not set",
      ],
    ],
  ]
  for (const [env, dialect, notes] of cases) {
    const found = translate(env, [], readText)
    assert.deepEqual([found.dialect, found.warnings], [dialect, notes])
  }
})

test('two complete sets of variables are an error that names both; of two incomplete ones all that is missing is named', () => {
  const { sidecar, rclone, moonflower } = recognised
  assert.throws(
    () => translate({ ...sidecar, ...rclone }, [], readText),
    (error: Failure) => {
      assert.match(
        error.message,
        /sidecar by BACKUP_NAME and BACKUP_LOCAL_PATH\n +rclone by BACKUP_DATABASES$/,
      )
      assert.deepEqual([error.exit, error.remedy], [2, 'set CAIRN_DIALECT to sidecar or rclone'])
      return true
    },
  )
  // What is malformed is there.
  const wrong = { ...sidecar, ...moonflower, PG_PORT: 'x' }
  assert.throws(() => translate(wrong, [], readText), isUsage(/each of these is complete/))
  const half = { BACKUP_NAME: 'app', PG_DATABASES: 'shop', PG_HOST: 'db', PG_PASSWORD: 'geheim' }
  assert.throws(
    () => translate(half, [], readText),
    isUsage(
      /whole for none: this is missing\n.*sidecar by BACKUP_NAME; BACKUP_LOCAL_PATH, BACKUP_POSTGRES are not set\n.*moonflower by PG_DATABASES; .*PG_USER are not set/,
    ),
  )
})

test('a secret in a pipe is left for whoever needs it: it can be read once only', async () => {
  const pipe = join(await freshFolder(), 'pipe')
  execFileSync('mkfifo', [pipe])
  const env = { ...recognised.rclone, PGPASSWORD_FILE: pipe }
  // To read it would be to wait for a writer for ever.
  assert.deepEqual(at(translate(env, []).plain, 'jobs.rclone.source.password'), { file: pipe })
})
