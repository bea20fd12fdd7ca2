// Samba on the loopback, with a configuration, passwords and a port of its own.

import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ServiceUnavailable, type SmbFacts } from './facts.ts'
import { freePorts, run, until } from './process.ts'
import type { Starting } from './registry.ts'

const smbd = '/usr/sbin/smbd'
/** An account that every machine has, and that nobody is. */
const user = 'nobody'

export async function startSmb(start: Starting): Promise<SmbFacts> {
  if (!existsSync(smbd)) throw new ServiceUnavailable(`no ${smbd}`)
  if (process.getuid?.() !== 0) throw new ServiceUnavailable('smbd has to be started by root')
  const port = await freePorts()
  const folder = join(start.dir, 'files')
  const password = randomBytes(12).toString('hex')
  const config = join(start.dir, 'smb.conf')
  await mkdir(folder)
  await chmod(folder, 0o777)
  const own = await Promise.all(
    ['private', 'lock', 'state', 'cache', 'pid', 'ncalrpc'].map(async name => {
      await mkdir(join(start.dir, name), { mode: name === 'private' ? 0o700 : 0o755 })
      return `${name === 'ncalrpc' ? 'ncalrpc dir' : name === 'pid' ? 'pid directory' : `${name} ${name === 'private' ? 'dir' : 'directory'}`} = ${join(start.dir, name)}`
    }),
  )
  const lines = [
    ...['[global]', 'server role = standalone server', 'disable spoolss = yes', 'load printers = no'],
    ...['interfaces = lo', 'bind interfaces only = yes', `smb ports = ${port}`, 'map to guest = never'],
    ...[
      'log file = /dev/stderr',
      'disable netbios = yes',
      `passdb backend = tdbsam:${join(start.dir, 'private/passdb.tdb')}`,
    ],
    ...own,
    ...['[files]', `path = ${folder}`, 'read only = no', `valid users = ${user}`],
  ]
  await writeFile(config, `${lines.join('\n')}\n`)
  await run('sh', [
    '-c',
    'printf "%s\\n%s\\n" "$0" "$0" | smbpasswd -c "$1" -a -s "$2"',
    password,
    config,
    user,
  ])
  const daemon = start.daemon(smbd, ['--foreground', '--no-process-group', '--configfile', config], {
    stopWith: 'SIGTERM',
  })
  const facts: SmbFacts = { host: '127.0.0.1', port, user, password, share: 'files', folder }
  await until('smbd', 20, daemon, async () => {
    const { connect } = await import('node:net')
    await new Promise<void>((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => {
        socket.destroy()
        resolve()
      })
      socket.once('error', reject)
    })
  })
  return facts
}
