import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { docker, Refused } from './client.ts'
import { textOf } from './container.ts'
import { containerIn } from './self.ts'

async function answering(t: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  t.after(() => server.close())
  await new Promise(resolve => server.once('listening', resolve))
  return `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`
}

test("Docker's refusal is told in its own words, with its status", async t => {
  const at = await answering(t, (_, answer) => answer.writeHead(409).end('{"message":"it is paused"}'))
  await assert.rejects(docker(at).ask('POST', '/containers/x/start'), (error: Refused) => {
    assert.ok(error instanceof Refused)
    assert.equal(error.status, 409)
    assert.match(error.message, /it is paused/)
    return true
  })
})

test('with patience it asks until Docker answers again, and says that it asked more than once', async t => {
  let asked = 0
  const at = await answering(t, (asking, answer) => {
    asked += 1
    if (asked === 1) asking.socket.destroy()
    else answer.writeHead(asked === 2 ? 503 : 304).end()
  })
  const { status, wasRetried } = await docker(at).ask('POST', '/x', { patienceMs: 30_000 })
  assert.deepEqual({ status, wasRetried, asked }, { status: 304, wasRetried: true, asked: 3 })
})

test('by TLS it knows Docker, and is known, by the files of DOCKER_CERT_PATH', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'tls-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const made = ['-x509', '-newkey', 'ed25519', '-nodes', '-keyout', key, '-out', cert, '-days', '1']
  execFileSync('openssl', ['req', ...made, '-subj', '/CN=x', '-addext', 'subjectAltName=IP:127.0.0.1'], {
    stdio: 'ignore',
  })
  cpSync(cert, join(folder, 'ca.pem'))
  const both = { key: readFileSync(key), cert: readFileSync(cert), ca: readFileSync(cert) }
  const server = createTlsServer({ ...both, requestCert: true, rejectUnauthorized: true }, (_, answer) =>
    answer.end('OK'),
  ).listen(0, '127.0.0.1')
  t.after(() => server.close())
  await new Promise(resolve => server.once('listening', resolve))
  const at = `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`
  const env = { DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: folder }
  assert.equal((await docker(at, env).ask('GET', '/_ping')).body.toString(), 'OK')
  rmSync(key)
  await assert.rejects(docker(at, env).ask('GET', '/_ping'), /cannot reach Docker/)
})

test('an abort ends the asking', async () => {
  const signal = AbortSignal.timeout(300)
  const asking = docker('unix:///nowhere/docker.sock').ask('GET', '/x', { patienceMs: 60_000, signal })
  await assert.rejects(asking, { name: 'TimeoutError' })
})

test('no socket, and an address of no known kind, are errors that say what to do', async () => {
  await assert.rejects(docker('unix:///nowhere/docker.sock').ask('GET', '/x'), {
    exit: 2,
    why: 'there is no such socket',
    remedy: /-v \/nowhere\/docker\.sock:\/nowhere\/docker\.sock/,
  })
  assert.throws(() => docker('ssh://me@host'), { exit: 2, remedy: /unix:\/\/\/var\/run\/docker\.sock/ })
})

test('a socket of another group is an error that names the group to add', async t => {
  if (process.getuid?.() !== 0) return t.skip('needs root')
  const folder = mkdtempSync(join(tmpdir(), 'socket-'))
  const path = join(folder, 's')
  const server = createServer().listen(path)
  await new Promise(resolve => server.once('listening', resolve))
  chmodSync(folder, 0o755)
  chownSync(path, 0, 4711)
  chmodSync(path, 0o660)
  process.seteuid?.(65534)
  try {
    await assert.rejects(docker(`unix://${path}`).ask('GET', '/x'), {
      exit: 2,
      why: /belongs to group 4711/,
      remedy: /group_add: \["4711"\]/,
    })
  } finally {
    process.seteuid?.(0)
    server.close()
    rmSync(folder, { recursive: true })
  }
})

test("Docker's frames of stdout and stderr become text, and what is cut off is not read", () => {
  const frame = (stream: number, text: string): Buffer => {
    const head = Buffer.from([stream, 0, 0, 0, 0, 0, 0, 0])
    head.writeUInt32BE(Buffer.byteLength(text), 4)
    return Buffer.concat([head, Buffer.from(text)])
  }
  const stream = Buffer.concat([frame(1, 'one '), frame(2, 'zwölf'), frame(1, '')])
  assert.equal(textOf(stream), 'one zwölf')
  assert.equal(textOf(stream.subarray(0, stream.byteLength - 9)), 'one zwöl')
})

test('our own container is known by what is mounted from its folder, and a host is in none', () => {
  const id = 'a'.repeat(64)
  const other = 'b'.repeat(64)
  const inside = [
    `700 699 0:50 / / rw - overlay overlay rw,upperdir=/var/lib/docker/overlay2/x`,
    `710 700 8:1 /var/lib/docker/containers/${id}/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw`,
  ].join('\n')
  const podman = `710 700 0:1 /overlay-containers/${id}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw`
  const host = `90 22 0:40 / /var/lib/docker/containers/${other}/mounts/shm rw - tmpfs shm rw`
  assert.deepEqual([inside, podman, host].map(containerIn), [id, id, null])
})
