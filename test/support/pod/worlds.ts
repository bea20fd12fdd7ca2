// What is around the containers of the manifests: the server that a manifest names, real, under the name that it has there.

import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { createServer, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import { ask, blobsIn, containerSas } from '../../services/azurite.ts'
import { freshFolder, fullerRclone, newerRclone, service } from '../../services/index.ts'
import { run } from '../../services/process.ts'
import { rawClient } from '../s3-bucket.ts'
import type { World } from './index.ts'

/** A store that a manifest names. */
export interface Place {
  readonly world: Pick<World, 'hosts' | 'authorities' | 'mounts' | 'daemons' | 'env'>
  /** What the cluster's secrets hold, by their keys' role. */
  readonly secret: (name: string, key: string) => string | undefined
  /** What is there now: names from the root of the place, and their bytes. */
  files(): Promise<ReadonlyMap<string, Buffer>>
}

type Env = Readonly<Record<string, string>>

/** By what the manifest says; `pem` vouches for the hosts that speak TLS. */
export async function placeFor(t: TestContext, env: Env): Promise<Place> {
  const said = (name: string): string => env[`RCLONE_CONFIG_STORE_${name}`] ?? ''
  switch (said('TYPE')) {
    case 's3':
      return said('PROVIDER') === 'AWS' ? await amazon(t, env) : await minio(t, env)
    case 'sftp':
      return await nas(said, env)
    default:
      return said('ENV_AUTH') === 'true'
        ? await azureIdentity(t, said('ACCOUNT'), env)
        : await azureSignature(env)
  }
}

/** The bucket's own host, as AWS has it; the keys may do nothing but put objects. */
async function amazon(t: TestContext, env: Env): Promise<Place> {
  const [bucket = '', prefix = ''] = split(env.UPLOAD_PREFIX)
  const name = `${bucket}.s3.${env.AWS_REGION}.amazonaws.com`
  const s3 = await service('s3')
  const [, writer] = s3.others
  if (!writer) throw new Error('there is no other user')
  // The gateway takes the name of a host that it does not know for that of a bucket.
  const client = rawClient(t, { ...s3, bucket: name })
  await client.createBucket({ Bucket: name })
  const Principal = { AWS: [`arn:aws:iam:::user/${writer.name}`] }
  const Resource = [`arn:aws:s3:::${name}`, `arn:aws:s3:::${name}/*`]
  const Statement = [
    // Objects are theirs who put them.
    { Effect: 'Allow', Principal: { AWS: ['arn:aws:iam:::user/owner'] }, Action: ['s3:*'], Resource },
    { Effect: 'Allow', Principal, Action: ['s3:PutObject'], Resource },
    { Effect: 'Deny', Principal, NotAction: ['s3:PutObject'], Resource },
  ]
  const Policy = JSON.stringify({ Version: '2012-10-17', Statement })
  await client.putBucketPolicy({ Bucket: name, Policy })
  const tls = await certificate([name])
  return {
    world: {
      hosts: [{ name, port: 443, to: { port: Number(new URL(s3.endpoint).port), tls } }],
      authorities: tls.cert,
      env: {},
    },
    secret: (_, key) =>
      /secret/.test(key) ? writer.secretKey : /id$/.test(key) ? writer.accessKey : undefined,
    files: () => objects(client, name, prefix),
  }
}

/** Any S3 server at an address of one's own. */
async function minio(t: TestContext, env: Env): Promise<Place> {
  const [bucket = '', prefix = ''] = split(env.UPLOAD_PREFIX)
  const { hostname, port } = new URL(env.AWS_ENDPOINT_URL_S3 ?? '')
  const s3 = await service('s3-rclone')
  const client = rawClient(t, { ...s3, bucket })
  await client.createBucket({ Bucket: bucket })
  const tls = await certificate([hostname])
  return {
    world: {
      hosts: [{ name: hostname, port: Number(port), to: { port: Number(new URL(s3.endpoint).port), tls } }],
      authorities: tls.cert,
      env: {},
    },
    secret: (_, key) => (/secret/.test(key) ? s3.secretKey : /id$/.test(key) ? s3.accessKey : undefined),
    files: () => objects(client, bucket, prefix),
  }
}

async function objects(
  client: ReturnType<typeof rawClient>,
  Bucket: string,
  Prefix: string,
): Promise<Map<string, Buffer>> {
  const { Contents = [] } = await client.listObjectsV2({ Bucket, Prefix: `${Prefix}/` })
  const found = new Map<string, Buffer>()
  for (const { Key = '' } of Contents.filter(({ Key }) => !Key?.includes('/.cairn/'))) {
    const { Body } = await client.getObject({ Bucket, Key })
    found.set(Key, Buffer.from((await Body?.transformToByteArray()) ?? []))
  }
  return found
}

/** OpenSSH's server at its own port, with a user of its own, who alone may write into the folder. */
async function nas(said: (name: string) => string, env: Env): Promise<Place> {
  const [host, user, prefix] = [said('HOST'), said('USER'), env.UPLOAD_PREFIX ?? '']
  const uid = 1500
  const folder = await freshFolder()
  chmodSync(folder, 0o755)
  const own = (name: string): string => join(folder, name)
  for (const name of ['key', 'host_key'])
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', own(name)])
  mkdirSync(own('files'))
  const top = join('/', prefix.split('/')[1] ?? '')
  const written = join(own('files'), prefix.slice(top.length))
  mkdirSync(written, { recursive: true })
  chmodSync(written, 0o700)
  chownSync(written, uid, uid)
  writeFileSync(
    own('passwd'),
    `${readFileSync('/etc/passwd')}${user}:x:${uid}:${uid}::/nonexistent:/bin/sh\n`,
  )
  writeFileSync(own('shadow'), `${user}:*:20000:0:99999:7:::\n`, { mode: 0o600 })
  const lines = [
    ...[`HostKey ${own('host_key')}`, `AuthorizedKeysFile ${own('key')}.pub`, 'StrictModes no', 'UsePAM no'],
    ...[
      'PasswordAuthentication no',
      'PidFile none',
      'ListenAddress 127.0.1.1:22',
      'Subsystem sftp internal-sftp',
    ],
  ]
  writeFileSync(own('sshd_config'), `${lines.join('\n')}\n`)
  const [kind, key] = readFileSync(own('host_key.pub'), 'utf8').split(' ')
  return {
    world: {
      // The first host has the address at which sshd listens.
      hosts: [{ name: host, port: 22, to: null }],
      mounts: {
        [top]: own('files'),
        '/etc/passwd': own('passwd'),
        '/etc/shadow': own('shadow'),
        '/run/sshd': await freshFolder(),
      },
      daemons: [['/usr/sbin/sshd', '-D', '-f', own('sshd_config')]],
      env: {},
    },
    secret: (_, name) =>
      name === 'key'
        ? readFileSync(own('key'), 'utf8')
        : name === 'known_hosts'
          ? `${host} ${kind} ${key}\n`
          : undefined,
    async files() {
      const names = readdirSync(written, { recursive: true, encoding: 'utf8' }).filter(name =>
        name.endsWith('.gz'),
      )
      return new Map(names.map(name => [name, readFileSync(join(written, name))]))
    },
  }
}

/** The public name of the account, which is Azurite's; the signature may create and write. */
async function azureSignature(env: Env): Promise<Place> {
  const [container = '', prefix = ''] = split(env.UPLOAD_PREFIX)
  const azurite = await service('azurite')
  await makeContainer(azurite, container)
  const { hostname } = new URL(azurite.url)
  return {
    world: {
      hosts: [{ name: hostname, port: 443, to: { port: Number(new URL(azurite.direct).port) } }],
      authorities: readFileSync(azurite.caFile, 'utf8'),
      env: {},
    },
    secret: (_, key) =>
      key.endsWith('url')
        ? `${azurite.url}/${container}?${containerSas(azurite, container, 'cw')}`
        : undefined,
    files: () => blobs(azurite, container, prefix),
  }
}

/**
 * The account by the name it has in the manifest, and the login of Azure, which knows the token of the cluster. What the cluster
 * adds to a pod with such an identity is added.
 */
async function azureIdentity(t: TestContext, account: string, env: Env): Promise<Place> {
  const [container = '', prefix = ''] = split(env.UPLOAD_PREFIX)
  const azurite = await service('azurite')
  await makeContainer(azurite, container)
  const [login, blob] = ['login.microsoftonline.com', `${account}.blob.core.windows.net`]
  const tls = await certificate([login, blob])
  const token = randomBytes(20).toString('hex')
  const listen = async (answer: Parameters<typeof createServer>[1]): Promise<number> => {
    const server = createServer(tls, answer)
    t.after(() => server.close())
    await new Promise<void>(listening => server.listen(0, '127.0.0.1', listening))
    return (server.address() as AddressInfo).port
  }
  const doors = await listen(async (asked, answer) => {
    const said = new URLSearchParams((await buffer(asked)).toString())
    const known = asked.url?.includes('/token') ? said.get('client_assertion') === token : true
    answer.writeHead(known ? 200 : 401, { 'content-type': 'application/json' })
    answer.end(JSON.stringify(loginAnswer(login, asked.url ?? '')))
  })
  const storage = await listen((asked, answer) => {
    const headers = { ...asked.headers, host: new URL(azurite.url).hostname }
    const { hostname, port } = new URL(azurite.direct)
    const there = request(
      { hostname, port, path: asked.url, method: asked.method, headers, rejectUnauthorized: false },
      said => {
        answer.writeHead(said.statusCode ?? 502, said.headers)
        said.pipe(answer)
      },
    )
    there.on('error', () => answer.destroy())
    asked.pipe(there)
  })
  const folder = await freshFolder()
  chmodSync(folder, 0o755)
  writeFileSync(join(folder, 'azure-identity-token'), token, { mode: 0o644 })
  const at = '/run/secrets/azure/tokens'
  return {
    world: {
      hosts: [
        { name: login, port: 443, to: { port: doors } },
        { name: blob, port: 443, to: { port: storage } },
      ],
      authorities: tls.cert,
      mounts: { [at]: folder },
      env: {
        ...{ AZURE_CLIENT_ID: '11111111-2222-3333-4444-555555555555', AZURE_TENANT_ID: tenant },
        AZURE_AUTHORITY_HOST: `https://${login}/`,
        AZURE_FEDERATED_TOKEN_FILE: `${at}/azure-identity-token`,
      },
    },
    secret: () => undefined,
    files: () => blobs(azurite, container, prefix),
  }
}

const tenant = '99999999-8888-7777-6666-555555555555'

/** What Azure's login says to whoever logs in: where everything is, and at last a token for the storage. */
function loginAnswer(login: string, path: string): object {
  const base = `https://${login}/${tenant}`
  if (path.includes('/discovery/instance'))
    return {
      tenant_discovery_endpoint: `${base}/v2.0/.well-known/openid-configuration`,
      metadata: [{ preferred_network: login, preferred_cache: login, aliases: [login] }],
    }
  if (path.includes('openid-configuration'))
    return {
      token_endpoint: `${base}/oauth2/v2.0/token`,
      authorization_endpoint: `${base}/oauth2/v2.0/authorize`,
      issuer: `${base}/v2.0`,
    }
  const now = Math.floor(Date.now() / 1000)
  const claims = {
    ...{ aud: 'https://storage.azure.com', iss: `https://sts.windows.net/${tenant}/` },
    ...{ iat: now - 60, nbf: now - 60, exp: now + 3600, oid: tenant, tid: tenant },
  }
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const access_token = `${part({ typ: 'JWT', alg: 'HS256' })}.${part(claims)}.c2lnbmVk`
  return { token_type: 'Bearer', expires_in: 3600, ext_expires_in: 3600, access_token }
}

type Azurite = Awaited<ReturnType<typeof service<'azurite'>>>

/** Manifests may name the same one. */
async function makeContainer(azurite: Azurite, container: string): Promise<void> {
  const there = await ask(azurite, 'GET', '?comp=list')
  if (there.includes(`<Name>${container}</Name>`)) return
  await ask(azurite, 'PUT', `/${container}?restype=container`)
}

async function blobs(azurite: Azurite, container: string, prefix: string): Promise<Map<string, Buffer>> {
  const names = (await blobsIn(azurite, container)).filter(name => name.startsWith(prefix))
  const found = new Map<string, Buffer>()
  for (const name of names) found.set(name, await ask(azurite, 'GET', `/${container}/${name}`))
  return found
}

/** A key, and a certificate for these hosts that is its own authority. */
async function certificate(names: readonly string[]): Promise<{ key: string; cert: string }> {
  const folder = await freshFolder()
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const alternatives = `subjectAltName=${names.map(name => `DNS:${name}`).join(',')}`
  await run('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-subj', '/CN=cairn-test', '-addext', alternatives, '-keyout', key, '-out', cert],
  ])
  return { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') }
}

/** The bucket, and what is below. */
function split(path = ''): [string, string] {
  const at = path.indexOf('/')
  return at < 0 ? [path, ''] : [path.slice(0, at), path.slice(at + 1)]
}

/** A current rclone, as the image has it, that knows such stores; null where there is none. */
export function currentRclone(env: Env): string | null {
  const program = env.RCLONE_CONFIG_STORE_TYPE === 'azureblob' ? fullerRclone : newerRclone
  return existsSync(program) ? program : null
}
