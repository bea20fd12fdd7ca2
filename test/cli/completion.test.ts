import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { test } from 'node:test'
import { type Machine, machine } from '../support/cli.ts'

const cairn = resolve(import.meta.dirname, '../../bin/cairn')

/** A host with two jobs and two stores, and cairn on its PATH. */
function furnished(): { host: Machine; env: Record<string, string> } {
  const host = machine()
  host.configure({
    stores: {
      disk: { type: 'local', path: host.path('disk') },
      offsite: { type: 's3', bucket: 'b', region: 'us-east-1' },
    },
    defaults: { to: ['disk'] },
    jobs: {
      shop: { source: { type: 'sqlite', path: host.path('shop.db') } },
      wiki: { source: { type: 'files', paths: [host.path('wiki')] } },
    },
  })
  mkdirSync(host.path('bin'))
  symlinkSync(cairn, host.path('bin', 'cairn'))
  writeFileSync(host.path('key file.txt'), '')
  const env = {
    PATH: `${host.path('bin')}:${process.env.PATH}`,
    HOME: host.path('home'),
    CAIRN_CONFIG: host.config,
    CAIRN_STATE: host.state,
    TERM: 'dumb',
  }
  return { host, env }
}

/** The candidates of bash for a line that ends where the cursor stands. */
function bash(line: string, { host, env }: ReturnType<typeof furnished>): string[] {
  const script = `
    source <(cairn completion bash)
    COMP_LINE=$1 COMP_POINT=\${#1}
    # As readline splits them: at every break character.
    mapfile -t COMP_WORDS < <(grep -oE '[^@:= ]+|[@:=]+' <<< "$1"); [[ $1 == *' ' ]] && COMP_WORDS+=('')
    COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
    _cairn 2> /dev/null; printf '%s\\n' "\${COMPREPLY[@]}"`
  const said = execFileSync('bash', ['--norc', '-c', script, 'bash', line], { env, cwd: host.folder })
  return said.toString().split('\n').filter(Boolean)
}

function fish(line: string, { host, env }: ReturnType<typeof furnished>): string[] {
  const script = 'cairn completion fish | source; complete -C $argv[1]'
  const said = execFileSync('fish', ['--no-config', '-c', script, line], { env, cwd: host.folder })
  return said
    .toString()
    .split('\n')
    .filter(Boolean)
    .map(each => each.split('\t')[0] ?? '')
}

/** What an interactive zsh shows at a terminal when a tab is typed behind a line, until it shows what is wanted. */
function zsh(line: string, wanted: string, { host, env }: ReturnType<typeof furnished>): string {
  const script = `
    zmodload zsh/zpty
    zpty shell zsh -f -i
    zpty -w shell 'autoload -Uz compinit; compinit -u -D; source <(cairn completion zsh); PS1=READY; echo "[""$?""]"'
    zpty -r shell seen '*\\[0\\]*READY*'
    zpty -w -n shell "$1"$'\t'
    repeat 1200; do sleep 0.05; zpty -r -t shell more 2> /dev/null && seen+=$more; [[ $seen == *"$2"* ]] && break; done
    print -r -- "$seen"
    zpty -d shell`
  return execFileSync('zsh', ['-f', '-c', script, 'zsh', line, wanted], { env, cwd: host.folder }).toString()
}

const cases: [line: string, has: string[], hasNot: string[]][] = [
  ['cairn ', ['backup', 'restore', 'completion'], ['complete', 'shop']],
  ['cairn pr', ['prune'], ['backup']],
  ['cairn backup ', ['shop', 'wiki'], ['disk', 'latest']],
  ['cairn backup shop ', ['wiki'], []],
  ['cairn show ', ['latest', 'wiki@latest'], ['disk']],
  ['cairn list --store ', ['disk', 'offsite'], ['shop']],
  ['cairn copy latest --to off', ['offsite'], ['disk']],
  ['cairn restore latest --allow ', ['devices', 'setuid'], ['latest']],
  ['cairn restore latest --dr', ['--dry-run'], ['--yes']],
  ['cairn --quiet config s', ['show', 'schema'], ['shop']],
]

test('bash completes commands, options, jobs, stores and backups, as they are configured', () => {
  const place = furnished()
  for (const [line, has, hasNot] of cases) {
    const found = bash(line, place)
    for (const word of has) assert.ok(found.includes(word), `${line}: ${word} in ${found}`)
    for (const word of hasNot) assert.ok(!found.includes(word), `${line}: ${word} in ${found}`)
  }
  assert.deepEqual(bash('cairn show shop@la', place), ['latest'])
  assert.deepEqual(bash('cairn show latest --identity key', place), ['key file.txt'])
})

test('fish completes the same', () => {
  const place = furnished()
  for (const [line, has, hasNot] of cases) {
    const found = fish(line, place)
    for (const word of has) assert.ok(found.includes(word), `${line}: ${word} in ${found}`)
    for (const word of hasNot) assert.ok(!found.includes(word), `${line}: ${word} in ${found}`)
  }
  assert.deepEqual(fish('cairn show latest --identity key', place), ['key file.txt'])
})

test('zsh completes at its prompt', () => {
  const place = furnished()
  assert.ok(zsh('cairn pru', 'prune', place).includes('prune'))
  assert.ok(zsh('cairn show wiki', 'wiki@latest', place).includes('wiki@latest'))
  assert.ok(zsh('cairn copy latest --to off', 'offsite', place).includes('offsite'))
})

test('a faulty configuration does not get in the way of typing', () => {
  const place = furnished()
  place.host.configure({ jobs: { x: 1 } })
  assert.ok(bash('cairn ', place).includes('backup'))
  assert.deepEqual(bash('cairn backup ', place), [])
})
