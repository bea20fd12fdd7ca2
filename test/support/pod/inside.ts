// The inside of a pod: in namespaces of its own, lays out the file system that a container sees, listens for the hosts it
// knows, starts the daemons beside it, and runs its program as the user it is to be. Reads what to do from stdin.

import { spawn, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import type { Inside } from './index.ts'

const { root, folder, mounts, hosts, daemons, uid, program, env } = JSON.parse(
  readFileSync(0, 'utf8'),
) as Inside

function must(command: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`)
}

/** The machine's own folders, each mounted for itself: what is mounted over them is seen here only. */
function layOut(): void {
  must('mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', root)
  for (const entry of readdirSync('/', { withFileTypes: true })) {
    const [from, to] = [join('/', entry.name), join(root, entry.name)]
    if (entry.isSymbolicLink()) symlinkSync(readlinkSync(from), to)
    if (!entry.isDirectory()) continue
    mkdirSync(to)
    must('mount', '--rbind', from, to)
  }
}

/** Makes way for what the machine has not: nothing is ever made in its own folders. */
function mountAt(at: string, from: string): void {
  const to = join(root, at)
  const top = join(root, at.split('/')[1] ?? '')
  if (!existsSync(to) && existsSync(top)) must('mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', top)
  if (!existsSync(to)) mkdirSync(to, { recursive: true })
  must('mount', '--bind', from, to)
}

function addressOf(index: number): string {
  return `127.0.1.${index + 1}`
}

/** Resolves when a daemon that was just started lets one in. */
async function answers(port: number, address: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    const client = connect(port, address)
    const isThere = await new Promise<boolean>(resolve =>
      client.once('connect', () => resolve(true)).once('error', () => resolve(false)),
    )
    client.destroy()
    if (isThere) return
    if (tries > 600) throw new Error(`nobody listens at ${address} port ${port}`)
    await new Promise(resolve => setTimeout(resolve, 100))
  }
}

/** Every host has an address of its own, so that several can listen at one port. */
async function listen(): Promise<string> {
  const lines = ['127.0.0.1 localhost']
  for (const [index, { name, port, socket }] of hosts.entries()) {
    const address = addressOf(index)
    lines.push(`${address} ${name}`)
    if (socket === null) continue
    const server = createServer(client => {
      const there = connect(socket)
      client.pipe(there).pipe(client)
      client.on('error', () => there.destroy()).on('close', () => there.destroy())
      there.on('error', () => client.destroy()).on('close', () => client.destroy())
    })
    await new Promise<void>(resolve => server.listen(port, address, resolve))
  }
  return `${lines.join('\n')}\n`
}

must('ip', 'link', 'set', 'lo', 'up')
layOut()
const file = join(folder, 'hosts')
writeFileSync(file, await listen())
for (const { at, from } of [{ at: '/etc/hosts', from: file }, ...mounts]) mountAt(at, from)
for (const [command = '', ...args] of daemons)
  spawn('chroot', [root, command, ...args], { stdio: ['ignore', 'ignore', 'ignore'] })
for (const [index, { port, socket }] of hosts.entries())
  if (socket === null) await answers(port, addressOf(index))
const user = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--no-new-privs', '--inh-caps=-all']
const ran = await new Promise<{ code: number | null; signal: string | null }>(resolve => {
  const as = ['setpriv', ...user, '--bounding-set=-all', '--', 'env', '-C', folder, ...program]
  const child = spawn('/usr/sbin/chroot', [root, ...as], { env, stdio: ['ignore', 'inherit', 'inherit'] })
  child.once('close', (code, signal) => resolve({ code, signal }))
})
process.exit(ran.code ?? (ran.signal ? 128 : 1))
