// Runs what a Kubernetes manifest says, as far as a machine without Kubernetes can: the container's environment, secrets,
// volumes and arguments word for word, its hosts by the names it has for them, as user 1001, in a network and a file
// system of its own. Only the image is another one: Cairn, from this checkout.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Server } from 'node:net'
import { join, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import { createServer as createTlsServer } from 'node:tls'
import { parseAllDocuments } from 'yaml'
import { freshFolder } from '../../services/index.ts'
import { canBeNobody } from '../nobody.ts'

/** The user of the image. */
const uid = 1001
const cairn = resolve(import.meta.dirname, '../../../bin/cairn')

/** What a manifest says of its one container. */
export interface Container {
  readonly args: readonly string[]
  /** With the values of the secrets. */
  readonly env: Readonly<Record<string, string>>
  /** What is mounted where: a name of a secret for each path. */
  readonly secretsAt: Readonly<Record<string, string>>
}

/** The secrets of a cluster: by name, their keys and values. */
export type Secrets = Readonly<Record<string, Readonly<Record<string, string>>>>

interface Manifest {
  readonly kind: string
  readonly spec: {
    readonly jobTemplate: {
      readonly spec: {
        readonly template: {
          readonly spec: {
            readonly containers: readonly {
              readonly args?: readonly string[]
              readonly env: readonly {
                readonly name: string
                readonly value?: string
                readonly valueFrom?: {
                  readonly secretKeyRef: { readonly name: string; readonly key: string }
                }
              }[]
              readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[]
            }[]
            readonly volumes?: readonly {
              readonly name: string
              readonly secret?: { readonly secretName: string }
            }[]
          }
        }
      }
    }
  }
}

/** `secretOf` says what a key of a secret holds: manifests name them, and the cluster has them. */
export function containerOf(yaml: string, secretOf: (name: string, key: string) => string): Container {
  const documents = parseAllDocuments(yaml).map(document => document.toJS() as Manifest)
  const job = documents.find(({ kind }) => kind === 'CronJob')
  const pod = job?.spec.jobTemplate.spec.template.spec
  const [container] = pod?.containers ?? []
  assert.ok(container, 'a CronJob with a container')
  const env = container.env.map(({ name, value, valueFrom }) => {
    const ref = valueFrom?.secretKeyRef
    return [name, value ?? (ref ? secretOf(ref.name, ref.key) : '')]
  })
  const secretsAt = (container.volumeMounts ?? []).map(({ name, mountPath }) => {
    const secret = pod?.volumes?.find(volume => volume.name === name)?.secret?.secretName
    assert.ok(secret, `the volume ${name} is a secret`)
    return [mountPath, secret]
  })
  return {
    args: container.args ?? [],
    env: Object.fromEntries(env),
    secretsAt: Object.fromEntries(secretsAt),
  }
}

/** A host as a container knows it, and where it is on this machine. */
export interface Host {
  readonly name: string
  readonly port: number
  /** Null: a daemon inside listens there itself. `tls`: a server's key and certificate, which this host shows. */
  readonly to: { readonly port: number; readonly tls?: { key: string; cert: string } } | null
}

/** What is around a container. */
export interface World {
  readonly hosts: readonly Host[]
  /** The authorities that the image trusts, as one PEM. */
  readonly authorities?: string
  readonly secrets?: Secrets
  /** Folders and files of this machine by the paths under which they are seen. */
  readonly mounts?: Readonly<Record<string, string>>
  /** Servers that run inside, as root. */
  readonly daemons?: readonly (readonly string[])[]
  /** What a cluster adds to the environment, and the image. */
  readonly env: Readonly<Record<string, string>>
}

/** What `inside.ts` reads. */
export interface Inside {
  readonly root: string
  readonly folder: string
  readonly mounts: readonly { readonly at: string; readonly from: string }[]
  readonly hosts: readonly { readonly name: string; readonly port: number; readonly socket: string | null }[]
  readonly daemons: readonly (readonly string[])[]
  readonly uid: number
  readonly program: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

/** Whether this machine lets a test make namespaces; skips it otherwise, saying why. */
export function canRunPods(t: TestContext): boolean {
  if (!canBeNobody(t)) return false
  if (spawnSync('unshare', [...namespaces, 'ip', 'link', 'set', 'lo', 'up']).status === 0) return true
  t.skip('this machine allows no namespaces: unshare --mount --net --pid fails')
  return false
}

const namespaces = ['--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc']

/** Runs the container once, to its end. */
export async function runPod(
  { args, env, secretsAt }: Container,
  world: World,
): Promise<{ code: number | null; output: string }> {
  const folder = await freshFolder()
  chmodSync(folder, 0o755)
  const own = (name: string): string => join(folder, name)
  mkdirSync(own('root'))
  for (const name of ['home', 'state', 'work']) mkdirSync(own(name), { mode: 0o700 })
  for (const name of ['home', 'state', 'work']) chownSync(own(name), uid, uid)
  const servers: Server[] = []
  const hosts = await Promise.all(
    world.hosts.map(async ({ name, port, to }, index) => {
      if (to === null) return { name, port, socket: null }
      const socket = own(`host-${index}`)
      servers.push(await relay(socket, to))
      return { name, port, socket }
    }),
  )
  const mounts = Object.entries(world.mounts ?? {}).map(([at, from]) => ({ at, from }))
  for (const [at, secret] of Object.entries(secretsAt))
    mounts.push({ at, from: secretFolder(own(secret), world.secrets?.[secret] ?? {}) })
  if (world.authorities !== undefined) {
    writeFileSync(own('authorities.pem'), world.authorities)
    mounts.push({ at: '/etc/ssl/certs/ca-certificates.crt', from: own('authorities.pem') })
  }
  const said: Inside = {
    ...{ root: own('root'), folder: own('work'), mounts, hosts, daemons: world.daemons ?? [], uid },
    program: [cairn, 'run', '--idle', ...(args.length > 0 ? ['--', ...args] : [])],
    env: { HOME: own('home'), CAIRN_STATE: own('state'), LANG: 'C.UTF-8', ...world.env, ...env },
  }
  try {
    return await inside(said)
  } finally {
    for (const server of servers) server.close()
  }
}

async function inside(said: Inside): Promise<{ code: number | null; output: string }> {
  const program = [process.execPath, '--no-warnings', join(import.meta.dirname, 'inside.ts')]
  const child = spawn('unshare', [...namespaces, ...program], { stdio: ['pipe', 'pipe', 'pipe'] })
  child.stdin.end(JSON.stringify(said))
  const text = async (stream: Readable): Promise<string> => (await buffer(stream)).toString()
  const code = new Promise<number | null>((ended, failed) => child.once('close', ended).once('error', failed))
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)])
  return { code: await code, output: out + err }
}

/** The way out of the container's network: a socket's file. */
async function relay(socket: string, { port, tls }: NonNullable<Host['to']>): Promise<Server> {
  const pass = (client: NodeJS.ReadWriteStream & { destroy(): unknown }): void => {
    const there = connect(port, '127.0.0.1')
    client.pipe(there).pipe(client)
    client.on('error', () => there.destroy()).on('close', () => there.destroy())
    there.on('error', () => client.destroy()).on('close', () => client.destroy())
  }
  const server = tls ? createTlsServer(tls, pass) : createServer(pass)
  await new Promise<void>(listening => server.listen(socket, listening))
  return server
}

/** As Kubernetes lays out a secret: links to files of root's in a folder that may be exchanged. */
function secretFolder(folder: string, secret: Readonly<Record<string, string>>): string {
  mkdirSync(join(folder, '..made'), { recursive: true })
  symlinkSync('..made', join(folder, '..data'))
  for (const [key, value] of Object.entries(secret)) {
    writeFileSync(join(folder, '..made', key), value, { mode: 0o644 })
    symlinkSync(join('..data', key), join(folder, key))
  }
  return folder
}
