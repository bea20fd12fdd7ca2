// OpenSSH's own server on the loopback, with keys of its own.

import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { ServiceUnavailable, type SftpFacts } from './facts.ts'
import { freePorts, run, until } from './process.ts'
import type { Starting } from './registry.ts'

const sshd = '/usr/sbin/sshd'

export async function startSftp(start: Starting): Promise<SftpFacts> {
  if (!existsSync(sshd)) throw new ServiceUnavailable(`no ${sshd}`)
  const facts: SftpFacts = {
    host: '127.0.0.1',
    port: await freePorts(),
    user: userInfo().username,
    keyFile: join(start.dir, 'key'),
    knownHosts: join(start.dir, 'known_hosts'),
    folder: join(start.dir, 'files'),
  }
  const config = await configure(facts, start.dir)
  // Where sshd as root locks up what it does not trust; normally made by its service file.
  if (process.getuid?.() === 0) await mkdir('/run/sshd', { recursive: true, mode: 0o755 })
  const daemon = start.daemon(sshd, ['-D', '-e', '-f', config], { stopWith: 'SIGTERM' })
  await until('sshd', 20, daemon, () => greeting(facts))
  await logIn(facts)
  return facts
}

/** sshd lets nobody in whose account is locked or has no shell, and that shows only now. */
async function logIn({ host, port, user, keyFile, knownHosts }: SftpFacts): Promise<void> {
  const options = [
    'BatchMode=yes',
    `Port=${port}`,
    `IdentityFile=${keyFile}`,
    `UserKnownHostsFile=${knownHosts}`,
  ]
  try {
    await run('sftp', [
      '-F',
      'none',
      '-b',
      '/dev/null',
      ...options.flatMap(one => ['-o', one]),
      `${user}@${host}`,
    ])
  } catch (error) {
    throw new ServiceUnavailable(`sshd does not let ${user} in: ${(error as Error).message}`)
  }
}

async function configure(facts: SftpFacts, dir: string): Promise<string> {
  const hostKey = join(dir, 'host_key')
  const config = join(dir, 'sshd_config')
  await mkdir(facts.folder)
  for (const key of [hostKey, facts.keyFile]) {
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'cairn-test', '-f', key])
  }
  const publicKey = await readFile(`${hostKey}.pub`, 'utf8')
  await writeFile(facts.knownHosts, `[${facts.host}]:${facts.port} ${publicKey}`)
  const lines = [
    `ListenAddress ${facts.host}:${facts.port}`,
    `HostKey ${hostKey}`,
    `AuthorizedKeysFile ${facts.keyFile}.pub`,
    'PidFile none',
    // The folders above are a temporary one's, which others may enter.
    'StrictModes no',
    'UsePAM no',
    'PermitRootLogin prohibit-password',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'MaxStartups 200',
    'MaxSessions 200',
    'Subsystem sftp internal-sftp',
  ]
  await writeFile(config, `${lines.join('\n')}\n`)
  return config
}

function greeting({ host, port }: SftpFacts): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, host)
    socket.once('error', reject)
    socket.once('data', () => {
      socket.destroy()
      resolve()
    })
  })
}
