import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '../model/failure.ts'
import { parseConfig } from './read.ts'
import { listenAddress } from './schema/timing.ts'

/** What is wrong with a configuration, one line each. */
function faults(text: string): string[] {
  try {
    parseConfig(text, 'cairn.yaml')
    return []
  } catch (error) {
    assert.ok(error instanceof Failure && error.exit === 2)
    return error.why
      .split('\n')
      .slice(1)
      .map(line => line.trim())
  }
}

const job = (to: string): string => `stores:
  one: { type: local, path: /a }
  two: { type: local, path: /b }
jobs:
  wiki:
    source: { type: sqlite, path: /wiki.db }
    to: ${to}
`

test('a sound configuration has no faults', () => {
  assert.deepEqual(faults(job('[one, { store: two, after: one }]')), [])
})

test('all faults are told at once, each with its line and what was probably meant', () => {
  const found = faults(`stores:
  disk: { type: locl, path: /a }
  far: { type: s3, bucket: b, regoin: x }
jobs:
  wiki:
    source: { type: sqlite, path: relative.db }
    to: [disk]
    keepp: { last: 1 }
`)
  assert.equal(found.length, 4)
  assert.match(found[0] ?? '', /^line 2: .*did you mean "local"\?/)
  assert.match(found[1] ?? '', /^line 3: unknown key "regoin".*did you mean "region"\?/)
  assert.match(found[2] ?? '', /^line 6: .*absolute/)
  assert.match(found[3] ?? '', /^line 8: unknown key "keepp".*did you mean "keep"\?/)
})

test('a store that is not there, or stands twice, or is fed by nobody, is a fault', () => {
  assert.match(faults(job('[oen]'))[0] ?? '', /^line 7: there is no store "oen"; did you mean "one"\?/)
  assert.match(faults(job('[one, one]'))[0] ?? '', /store "one" stands there twice/)
  assert.match(faults(job('[{ store: one, after: two }]'))[0] ?? '', /"after: two" must name a store/)
  assert.match(faults(job('[one]').replace('/b', '/a/')).join(), /stores one and two are the same folder/)
})

test('a name that means something else, or that stores do not tell apart, is refused', () => {
  assert.match(faults(job('[one]').replace('wiki:', 'latest:'))[0] ?? '', /"latest" means the newest backup/)
  assert.match(faults(job('[one]').replace('wiki:', 'Wiki:'))[0] ?? '', /upper case/)
})

test('a duration is a whole number and a unit, and nothing ambiguous', () => {
  for (const wrong of ['"30"', '1 month', '-5m', '1.5h', '']) {
    assert.notDeepEqual(faults(`${job('[one]')}    undelete: ${wrong}\n`), [], wrong)
  }
  assert.deepEqual(faults(`${job('[one]')}    undelete: 30 days\n`), [])
})

test('what YAML would pass over is an error: duplicate keys, unknown tags', () => {
  assert.match(faults('stores: {}\nstores: {}\n')[0] ?? '', /^line 2: .*unique/)
  assert.notDeepEqual(faults('stores: !secret {}\n'), [])
})

test('a schedule that is none, or never comes, is refused with its line and the reason; so are its companions', () => {
  const wrong: Record<string, RegExp> = {
    'schedule: "0 25 * * *"': /^line 8: jobs\.wiki\.schedule: "0 25 \* \* \*" is not a schedule: .*hour/,
    'schedule: "0 0 30 2 *"': /never comes/,
    'schedule: every day': /write 5 fields/,
    'timezone: Berlin': /^line 8: .*not a time zone/,
    'expect: every day': /^line 8: .*write for example "every 26h"/,
    'expect: every 0h': /not a duration/,
    'jitter: 1 month': /not a duration/,
    'retry: { times: -1 }': /^line 8: /,
    'webhooks: { sucess: "https://x.example" }': /unknown key "sucess".*did you mean "success"\?/,
  }
  for (const [line, fault] of Object.entries(wrong))
    assert.match(faults(`${job('[one]')}    ${line}\n`)[0] ?? '', fault, line)
  const sound = ['schedule: "*/10 0 2 * * 1-5"', 'schedule: "@daily"', 'expect: 26h', 'expect: every 2 days']
  for (const line of [...sound, 'retry: { times: 3 }', 'webhooks: { success: { env: PING }, log: true }'])
    assert.deepEqual(faults(`${job('[one]')}    ${line}\n`), [], line)
  assert.match(faults('serve: { listen: "localhost" }')[0] ?? '', /^line 1: .*HOST:PORT/)
})

test('an address to listen on has a host and a port, or a port alone', () => {
  assert.deepEqual(listenAddress('127.0.0.1:80'), { host: '127.0.0.1', port: 80 })
  assert.deepEqual(listenAddress('[::1]:8080'), { host: '::1', port: 8080 })
  assert.deepEqual(listenAddress('8080'), { host: '127.0.0.1', port: 8080 })
  assert.deepEqual(listenAddress(':8080'), { host: undefined, port: 8080 })
  for (const wrong of ['', 'a', '1:2:3', '[::1]', 'x:70000', 'http://x:1', '::1:80'])
    assert.equal(listenAddress(wrong), null, wrong)
})

test('a value of another type is told in words of YAML, and not quoted', () => {
  const found = faults(`stores:
  disk: { type: s3, bucket: b, endpoint: "127.0.0.1:9000" }
jobs:
  shop:
    source: { type: postgres, password: 12345, port: "5432", jobs: two, whole: sure }
    to: disk
    keep: 7
    containers: { stop: app }
    stall: 10
  wiki:
`)
  assert.deepEqual(found, [
    'line 2: stores.disk.endpoint: must be a URL, as https://s3.example',
    'line 5: jobs.shop.source.port: must be a number: without quotes',
    'line 5: jobs.shop.source.password: must be text: put it in quotes, or: must be keys with values: { key: value }',
    'line 5: jobs.shop.source.whole: must be true or false',
    'line 5: jobs.shop.source.jobs: must be a number',
    'line 6: jobs.shop.to: must be a list: [ … ]',
    'line 7: jobs.shop.keep: must be keys with values: { key: value }',
    'line 8: jobs.shop.containers.stop: must be a list: [ … ]',
    'line 9: jobs.shop.stall: must be text: put it in quotes',
    'line 10: jobs.wiki: there is nothing in it: is what belongs to it indented below it?',
  ])
  const [path] = faults(
    job('[one]').replace('{ type: sqlite, path: /wiki.db }', '{ type: files, paths: [data] }'),
  )
  assert.equal(path, 'line 6: jobs.wiki.source.paths.0: must be an absolute path')
})

test('a variable as compose files have it is refused, for nothing replaces it', () => {
  const text = (password: string): string => `stores:
  disk: { type: local, path: "/srv/\${ROOT:-backups}" }
jobs:
  shop:
    source: { type: postgres, host: db, database: shop, password: ${password}, args: ["--role=\${R}"] }
    to: [disk]
    hooks: { before: ['test -n "\${HOME}"'] }
`
  const hint = (name: string): string =>
    `\${${name}} is not replaced here; where a secret is taken, { env: ${name} } reads the variable, and { value: … } means it as it stands`
  assert.deepEqual(faults(text('"${DB_PASSWORD}"')), [
    `line 2: stores.disk.path: ${hint('ROOT')}`,
    `line 5: jobs.shop.source.password: ${hint('DB_PASSWORD')}`,
  ])
  assert.deepEqual(faults(text('"${password}"')).slice(1), [
    `line 5: jobs.shop.source.password: ${hint('password')}`,
  ])
  assert.deepEqual(faults(text('"x${hush}y"')).slice(1), [
    `line 5: jobs.shop.source.password: ${hint('NAME')}`,
  ])
  const sound = (password: string): string[] => faults(text(password).replace('${ROOT:-backups}', 'x'))
  for (const password of ['{ value: "${DB_PASSWORD}" }', '{ env: DB_PASSWORD }', '"$x{1}$"'])
    assert.deepEqual(sound(password), [], password)
})

test('the path of a file in the place of a secret is refused, and what may begin with a slash is not', () => {
  const text = (password: string, identity: string): string => `stores:
  disk: { type: local, path: /tmp }
encryption: { age: { recipientsFile: /etc/keys, identity: ${identity} } }
jobs:
  shop:
    source: { type: postgres, host: db, database: shop, password: ${password} }
    to: [disk]
`
  assert.deepEqual(faults(text('/dev/null', '[/dev/zero]')), [
    'line 3: encryption.age.identity.0: it is the path of a file: write { file: /dev/zero } for what is in it',
    'line 6: jobs.shop.source.password: it is the path of a file: write { file: /dev/null } for what is in it',
  ])
  assert.deepEqual(faults(text('{ file: /dev/null }', '{ file: /dev/zero }')), [])
  assert.deepEqual(faults(text('/no such thing', '{ file: /dev/zero }')), [])
  assert.deepEqual(faults(text('{ value: /dev/null }', '{ file: /dev/zero }')), [])
})
