import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Located, type Reachable, serves } from './serving.ts'

interface Said {
  readonly id?: string
  readonly service?: string
  readonly networks?: Record<string, { ip?: string; ip6?: string; aliases?: string[]; dns?: string[] }>
  readonly mode?: string
  readonly published?: string
}

function container({ id = 'c1', service, networks = {}, mode = 'bridge', published }: Said): Reachable {
  return {
    Id: id,
    Config: { Labels: service ? { 'com.docker.compose.service': service } : null },
    HostConfig: { NetworkMode: mode },
    NetworkSettings: {
      Networks: Object.fromEntries(
        Object.entries(networks).map(([NetworkID, { ip = '', ip6 = '', aliases, dns }]) => [
          NetworkID,
          {
            ...{ NetworkID, IPAddress: ip, GlobalIPv6Address: ip6 },
            ...{ Aliases: aliases ?? null, DNSNames: dns ?? null },
          },
        ]),
      ),
      Ports: { '5432/tcp': published ? [{ HostPort: published }] : null },
    },
  }
}

const at = (host: string, addresses: string[] = [], port = 5432): Located => ({ host, port, addresses })
const us = container({ id: 'us', networks: { app: {} } })

test('a server is in the container that has its address, its name, its service or its alias on a network of ours', () => {
  const db = container({
    service: 'database',
    networks: { app: { ip: '172.18.0.2', ip6: 'fd00::2', aliases: ['pg'], dns: ['main-db', 'c1'] }, far: {} },
  })
  for (const host of ['stack-db-1', 'database', 'pg', 'PG', 'main-db', '172.18.0.2', 'fd00::2'])
    assert.equal(serves('stack-db-1', db, at(host), us), true, host)
  assert.equal(serves('stack-db-1', db, at('db.internal', ['172.18.0.2']), us), true)
  for (const host of ['other', 'stack-db', '172.18.0.3', ''])
    assert.equal(serves('stack-db-1', db, at(host), us), false, host)
})

test('the same name on a network that is not ours is another server', () => {
  const far = container({ service: 'db', networks: { elsewhere: { aliases: ['db'] } } })
  assert.equal(serves('x-db-1', far, at('db'), us), false)
  // Outside of all containers nobody knows: it is rather left running.
  assert.equal(serves('x-db-1', far, at('db'), null), true)
})

test('a port that a container publishes is the machine’s, for who is on the machine', () => {
  const db = container({ networks: { app: {} }, published: '5433' })
  const onMachine = container({ id: 'us', mode: 'host' })
  for (const ours of [null, onMachine]) {
    for (const host of ['localhost', '127.0.0.1', '::1'])
      assert.equal(serves('db', db, at(host, [], 5433), ours), true, host)
    assert.equal(serves('db', db, at('name', ['127.0.0.1'], 5433), ours), true)
    assert.equal(serves('db', db, at('localhost'), ours), false)
  }
  assert.equal(serves('db', db, at('localhost', [], 5433), us), false)
  assert.equal(serves('db', db, at('host.docker.internal', [], 5433), us), true)
})

test('who shares the network of a container reaches it as localhost', () => {
  const shared = container({ id: 'us', mode: 'container:c1' })
  assert.equal(serves('db', container({ id: 'c1' }), at('localhost'), shared), true)
  assert.equal(serves('db', container({ id: 'c2' }), at('localhost'), shared), false)
})
