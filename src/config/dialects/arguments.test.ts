import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mariadbArguments } from './mariadb-arguments.ts'
import { pgArguments } from './pg-arguments.ts'

test('what pg_dump is told goes on in one word each; where to connect is an option of the source', () => {
  const words =
    '--no-owner -n app --exclude-table=a* --table b -xvT c --col --clean --create -E UTF8 --newer=1'
  assert.deepEqual(pgArguments(words.split(' '), false), {
    lifted: {},
    rest: [
      ...['--no-owner', '-napp', '--exclude-table=a*', '--table=b', '-x', '-v', '-Tc', '--col'],
      ...['--clean', '--create', '-EUTF8', '--newer=1', '--if-exists'],
    ],
    notes: [],
  })
  const connect = '-hdb -p 6000 --user=me -wW -d postgresql://u:geheim@h/d --dbname shop'
  assert.deepEqual(pgArguments(connect.split(' '), false), {
    lifted: { host: 'db', port: 6000, user: 'me' },
    rest: [],
    notes: [],
  })
  const url = ['-d', 'host=h password=geheim']
  assert.deepEqual(pgArguments(url, true).lifted, { url: { value: 'host=h password=geheim' } })
  assert.deepEqual(pgArguments(['-ct', '-l', 'x'], true).rest, ['-c', '-t', '--if-exists'])
})

test('the format of pg_dump: plain and custom are had, others are left to be refused; gzip is not done twice', () => {
  for (const words of [['-Fc'], ['-F', 'c'], ['--format=custom'], ['--format', 'c']])
    assert.deepEqual(pgArguments(words, false), { lifted: { format: 'custom' }, rest: [], notes: [] })
  assert.deepEqual(pgArguments(['-Fp', '-Z0', '--compress=none'], false), { lifted: {}, rest: [], notes: [] })
  assert.deepEqual(pgArguments(['-Fd', '-f', '/x', '-j2'], false).rest, ['-Fd', '-f/x', '-j2'])
  assert.match(pgArguments(['-Ft'], false).notes.join(), /^--format=tar: it is custom/)
  assert.match(pgArguments(['-Z9'], false).notes.join(), /^--compress: left out, because gzip follows$/)
})

test('what mariadb-dump is told goes on by its long names; what the old tool overruled does not', () => {
  const words =
    '--skip-extended-insert --ignore-table shop.a -dt -w id>1 --where=x -nK --skip-lock-tables --newer=1'
  assert.deepEqual(mariadbArguments(words.split(' '), false), {
    lifted: {},
    rest: [
      ...['--skip-extended-insert', '--ignore-table=shop.a', '--no-data', '--no-create-info', '--where=id>1'],
      ...['--where=x', '--no-create-db', '--disable-keys', '--skip-lock-tables', '--newer=1'],
    ],
    notes: [],
  })
  assert.deepEqual(mariadbArguments(['--ignore-database=a', '--ignore-database', 'mysql'], true), {
    ...{ lifted: { exclude: ['a', 'mysql'] }, rest: [], notes: [] },
  })
  const overruled = '-lqREB --single-transaction --hex-blob -Qi --lock-tables --opt'
  assert.deepEqual(mariadbArguments(overruled.split(' '), false), { lifted: {}, rest: [], notes: [] })
  const off = [
    '--routines=0',
    '--triggers=OFF',
    '--comments=false',
    '--hex-blob=0',
    '--skip-single-transaction',
  ]
  assert.deepEqual(mariadbArguments(off, false), {
    ...{ lifted: {}, rest: [] },
    notes: off.map(word => `${word}: left out, because Cairn needs it otherwise`),
  })
  assert.deepEqual(mariadbArguments(['-A'], true).rest, [])
  const { rest, notes } = mariadbArguments(['--compact', '--skip-comments', '--log-error=/x'], false)
  assert.deepEqual([rest, notes.length], [[], 3])
  const refused = ['-A', '-f', '-r', '/x', '--result-file', '/x', '-X', '-T/x', '-x']
  assert.deepEqual(mariadbArguments(refused, false).rest, [
    ...['--all-databases', '--force', '--result-file=/x', '--result-file=/x', '--xml', '--tab=/x'],
    '--lock-all-tables',
  ])
})

test('how mariadb-dump is told to connect counts for all connections, and no password is an argument', () => {
  const cases: [string[], object][] = [
    [
      ['-udump', '-pgeheim', '-h', 'db', '-P3307'],
      { user: 'dump', password: { value: 'geheim' }, host: 'db', port: 3307 },
    ],
    [
      ['--user', 'dump', '--password=a=b', '--host', 'db', '--port=3307'],
      { user: 'dump', password: { value: 'a=b' }, host: 'db', port: 3307 },
    ],
    [['-p'], {}],
    [
      ['--defaults-extra-file=/my.cnf', '--defaults-group-suffix=_x'],
      { defaultsExtraFile: '/my.cnf', defaultsGroupSuffix: '_x' },
    ],
    [['--no-defaults', '-S/run/x'], { defaultsFile: '/dev/null', socket: '/run/x' }],
    [['--protocol=tcp', '-hlocalhost'], { host: '127.0.0.1' }],
    [['--protocol=TCP', '-hdb'], { host: 'db' }],
    [['--skip-ssl'], { ssl: { mode: 'disabled' } }],
    [['--ssl-ca=/ca', '--ssl-verify-server-cert'], { ssl: { ca: '/ca', mode: 'verify-identity' } }],
    [['--ssl=0'], { ssl: { mode: 'disabled' } }],
    [['--skip-ssl-verify-server-cert'], { ssl: { mode: 'preferred' } }],
  ]
  for (const [words, lifted] of cases)
    assert.deepEqual(mariadbArguments(words, false), { lifted, rest: [], notes: [] }, words.join(' '))
})
