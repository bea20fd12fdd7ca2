// A Docker engine with images of its own, on a socket; no registry.

import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { type DockerFacts, ServiceUnavailable } from './facts.ts'
import { docker, trixie } from './places.ts'
import { run, until } from './process.ts'
import type { Starting } from './registry.ts'

const script = join(import.meta.dirname, 'docker.sh')
const base = join(docker.folder, `debian-${docker.release}.tar`)
/** Another engine of another run may have to end first. */
const patience = 600

/** `alone`: a new one without a network, which no other test touches; else the one of the machine, whose images stay. */
export async function startDocker(start: Starting, alone: boolean): Promise<DockerFacts> {
  refuseWhereImpossible()
  const folder = alone ? start.dir : docker.folder
  const args = [alone ? 'alone' : 'serve', folder, trixie.root]
  const daemon = start.daemon(script, args, { stopWith: 'SIGTERM' })
  const facts: DockerFacts = {
    host: `unix://${folder}/docker.sock`,
    program: join(folder, 'bin/docker'),
    config: join(folder, 'config'),
    pid: daemon.pid,
    debian: `debian:${docker.release}-slim`,
    node: `node:24-${docker.release}-slim`,
  }
  const env = { DOCKER_HOST: facts.host, DOCKER_CONFIG: facts.config }
  const ask = (...args: string[]): Promise<string> => run(facts.program, args, { env })
  await until('dockerd', alone ? 60 : patience, daemon, () => ask('info')).catch(error => {
    throw new ServiceUnavailable(
      `no Docker engine starts here: ${(error as Error).message.replaceAll('\n', ' | ')}`,
    )
  })
  const have = async (image: string): Promise<boolean> =>
    (await ask('image', 'ls', '-q', image)).trim() !== ''
  if (!(await have(facts.debian)))
    await ask('import', '--change', 'CMD ["bash"]', '--change', `ENV PATH=${searchPath}`, base, facts.debian)
  if (!alone && !(await have(facts.node))) await makeNodeImage(facts, ask)
  return facts
}

function refuseWhereImpossible(): void {
  if (process.getuid?.() !== 0) throw new ServiceUnavailable('a Docker engine needs root')
  for (const needed of [join(trixie.root, 'usr/sbin/dockerd'), '/usr/sbin/runc', '/usr/sbin/iptables', base])
    if (!existsSync(needed)) throw new ServiceUnavailable(`a Docker engine needs ${needed}`)
  if (!existsSync('/sys/fs/cgroup/cgroup.procs') && !existsSync('/sys/fs/cgroup/memory'))
    throw new ServiceUnavailable('a Docker engine needs /sys/fs/cgroup')
}

const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** What the official image has of Node.js: the one that runs these tests, and the machine's npm with its way to packages. */
async function makeNodeImage(facts: DockerFacts, ask: (...args: string[]) => Promise<string>): Promise<void> {
  const context = await mkdtemp(join(tmpdir(), 'node-image-'))
  try {
    const npm = resolve(dirname(await run('sh', ['-c', 'readlink -f "$(command -v npm)"'])), '..')
    await mkdir(join(context, 'bin'))
    await cp(process.execPath, join(context, 'bin/node'))
    await cp(npm, join(context, 'npm'), { recursive: true, dereference: true })
    const registry = (await run('npm', ['config', 'get', 'registry'])).trim()
    // How to reach packages, and never a token.
    const reach = registry.includes('@') ? [] : [`registry=${registry}`]
    await writeFile(
      join(context, 'npmrc'),
      [...reach, 'cafile=/etc/ssl/certs/ca-certificates.crt', ''].join('\n'),
    )
    const lines = [
      `FROM ${facts.debian}`,
      'COPY bin/node /usr/local/bin/node',
      'COPY npm /usr/local/lib/node_modules/npm',
      'COPY npmrc /usr/local/etc/npmrc',
      'RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm && chmod 755 /usr/local/lib/node_modules/npm/bin/*.js',
      'CMD ["node"]',
    ]
    await writeFile(join(context, 'Dockerfile'), `${lines.join('\n')}\n`)
    await ask('build', '-q', '-t', facts.node, context)
  } finally {
    await rm(context, { recursive: true, force: true })
  }
}
