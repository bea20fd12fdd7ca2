import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { parse } from 'yaml'
import { freshDatabase, orSkip } from '../services/index.ts'
import { filesIn } from '../support/cli.ts'
import { fillShop, type OldHost, oldHost, sh } from './support.ts'

/** The comment beside each variable that has to be set. */
function comments(yaml: string): Record<string, string> {
  return Object.fromEntries(
    [...yaml.matchAll(/: (CAIRN_SECRET_\d+) # (.*)$/gm)].map(([, name, said]) => [name, said]),
  )
}

function dumpsIn(host: OldHost): string[] {
  return filesIn(host.path('up')).filter(path => !path.includes('.cairn/'))
}

test('from-env says beside each secret variable what it must hold; set so, the configuration makes the same archive', async t => {
  const one = await orSkip(t, freshDatabase(15))
  const two = await orSkip(t, freshDatabase(15))
  if (!one || !two) return
  await fillShop(one)
  const host = oldHost({})
  mkdirSync(host.path('data'))
  writeFileSync(host.path('data/x'), 'x')
  const env = {
    ...{ BACKUP_NAME: 'up', BACKUP_LOCAL_PATH: host.path(), BACKUP_DIRS: host.path('data') },
    ...{ BACKUP_POSTGRES: `# shop\n${one.url}\n${two.url}`, BACKUP_ENCRYPTION_KEY: 'geheim geheim' },
  }
  const shown = await host.cairn(['config', 'from-env'], env)
  assert.equal(shown.code, 0, shown.stderr)
  assert.ok(![one.password, 'geheim'].some(secret => `${shown.out}${shown.stderr}`.includes(secret)))
  assert.deepEqual(comments(shown.out), {
    CAIRN_SECRET_1: 'URI 1 of BACKUP_POSTGRES',
    CAIRN_SECRET_2: 'URI 2 of BACKUP_POSTGRES',
  })
  const json = await host.cairn(['config', 'from-env', '--json'], env)
  assert.deepEqual(json.json(), parse(shown.out))
  assert.deepEqual(json.stderr.split('\n'), [
    'CAIRN_SECRET_1 must hold URI 1 of BACKUP_POSTGRES',
    'CAIRN_SECRET_2 must hold URI 2 of BACKUP_POSTGRES',
    '',
  ])
  assert.equal((await host.cairn(['backup'], env)).code, 0)
  writeFileSync(host.config, shown.out)
  const set = { CAIRN_SECRET_1: one.url, CAIRN_SECRET_2: two.url, BACKUP_ENCRYPTION_KEY: 'geheim geheim' }
  const ran = await host.cairn(['--config', host.config, 'backup'], set)
  assert.equal(ran.code, 0, ran.stderr)
  const names = dumpsIn(host).map(path => {
    const decrypt =
      'gpg --batch --quiet --pinentry-mode loopback --passphrase "geheim geheim" -d "$AT" | tar tz'
    return sh(decrypt, undefined, { AT: host.path('up', path) })
      .toString()
      .split('\n')
      .sort()
  })
  assert.equal(names.length, 2)
  assert.deepEqual(names[0], names[1])
  assert.ok(names[0]?.includes(`postgres-${one.name}.dump`), String(names[0]))
})

test('from-env names the arguments and the settings of a connection string that hold secrets', async () => {
  const host = oldHost({ REMOTE_NAME: ':sftp,host=nas,pass=geheim', BACKUP_DATABASES: 'a' })
  const cases = [
    [{ CAIRN_ENGINE: 'postgres' }, ['-d', 'postgresql://u:geheim@h/a'], 'what --dbname says'],
    [{ CAIRN_ENGINE: 'mariadb' }, ['-pgeheim', '-h', 'db'], 'what --password says'],
  ] as const
  for (const [env, args, said] of cases) {
    const shown = await host.cairn(['config', 'from-env', '--', ...args], env)
    assert.equal(shown.code, 0, shown.stderr)
    assert.ok(!`${shown.out}${shown.stderr}`.includes('geheim'))
    assert.deepEqual(Object.values(comments(shown.out)).sort(), [
      'pass of the connection string in REMOTE_NAME',
      said,
    ])
  }
})
