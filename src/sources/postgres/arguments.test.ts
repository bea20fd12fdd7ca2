import assert from 'node:assert/strict'
import { test } from 'node:test'
import { partialArguments, refusedArgument } from './arguments.ts'
import { PostgresOptions } from './index.ts'

const refused = (args: string[], whole = false): string | undefined => refusedArgument(args, whole)?.argument

test('arguments that choose what is dumped, and how its SQL looks, are passed on', () => {
  for (const args of [
    ['--exclude-table-data=logs', '--schema=app', '--no-comments', '-O', '-x', '--role=dumper'],
    [
      '-n',
      'app',
      '-Tlogs',
      '-sv',
      '--inserts',
      '--data-only',
      '--no-privileges',
      '--if-exists',
      '--clean',
      '-C',
    ],
    ['-n', '-f'],
    ['-nF'],
  ])
    assert.equal(refused(args), undefined, args.join(' '))
  for (const args of [['--exclude-database=x', '-c', '-r', '-t']])
    assert.equal(refused(args, true), undefined)
})

test('arguments that would take the dump out of our hands are refused, abbreviated and bundled too', () => {
  const cases: [string[], string][] = [
    [['--file=/tmp/x'], '--file'],
    [['--fil', '/tmp/x'], '--fil'],
    [['-f/tmp/x'], '-f'],
    [['-Ofx'], '-O'],
    [['-F', 'p'], '-F'],
    [['--format=plain'], '--format'],
    [['-j4'], '-j'],
    [['-Z', '9'], '-Z'],
    [['--compress=9'], '--compress'],
    [['-d', 'x'], '-d'],
    [['--dbname=postgresql://u:geheim@h/d'], '--dbname'],
    [['-h', 'h'], '-h'],
    [['-p1'], '-p'],
    [['-U', 'u'], '-U'],
    [['-W'], '-W'],
    [['--snapshot=1'], '--snapshot'],
    [['--snap=1'], '--snap'],
    [['--help'], '--help'],
    [['-V'], '-V'],
    [['postgresql://u:geheim@h/d'], 'a word without an option'],
    [['password=geheim'], 'a word without an option'],
    [['--schema', 'geheim'], '--schema'],
    [['--exclude-table-data', 'geheim'], '--exclude-table-data'],
    [['-n'], '-n'],
    [['--', 'geheim'], '--'],
    [[''], 'a word without an option'],
  ]
  for (const [args, expected] of cases) {
    const found = refusedArgument(args, false)
    assert.equal(found?.argument, expected, args.join(' '))
    assert.ok(found?.instead && !found.instead.includes('geheim'), args.join(' '))
  }
  assert.equal(refused(['--database=x'], true), '--database')
  assert.equal(refused(['-l', 'x'], true), '-l')
})

test('arguments by which only a part is dumped are told apart', () => {
  const args = ['--no-comments', '--schema=a', '-n', '-s', '-Ot', 'x', '--exclude-table-data=b', '-O', '-sv']
  assert.deepEqual(partialArguments(args, false), [
    '--schema=a',
    '-n',
    '-Ot',
    '--exclude-table-data=b',
    '-sv',
  ])
  assert.deepEqual(partialArguments(['-c', '-g', '--exclude-database=x'], true), [
    '-g',
    '--exclude-database=x',
  ])
})

test('options that do not go together are refused, with the option to blame', () => {
  const cases: [object, RegExp][] = [
    [{ database: 'a', databases: ['b'] }, /not both/],
    [{ databases: ['a', 'a'] }, /twice/],
    [{ databases: [] }, /./],
    [{ databases: ['a\0b'] }, /no NUL/],
    [{ databases: ['é'.repeat(32)] }, /at most 63 bytes/],
    [{ databases: ['a'], exclude: ['b'] }, /databases: all/],
    [{ whole: true, databases: 'all' }, /leave out database/],
    [{ whole: true, format: 'directory' }, /leave out format/],
    [{ jobs: 2 }, /format: directory/],
    [{ args: ['-f', 'x'] }, /-f cannot be used here: the output goes to the stores/],
    [{ url: 'x', host: 'y' }, /not both/],
  ]
  for (const [options, expected] of cases) {
    const parsed = PostgresOptions.safeParse(options)
    assert.match(String(parsed.error), expected, JSON.stringify(options))
  }
})
