import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { test } from 'node:test'
import { filesIn, listed, machine, randomFiles, sqliteFile } from '../support/cli.ts'
import { webhookServer } from '../support/webhook-server.ts'
import { type OldHost, oldHost, sh } from './support.ts'

const scripts = resolve(import.meta.dirname, '../../images/scripts')

/** What the script of the image has Cairn do. */
function backupNow(): string[] {
  const [, words = ''] =
    /^exec \/entrypoint (.*) "\$@"$/m.exec(readFileSync(join(scripts, 'backup-now.sh'), 'utf8')) ?? []
  return words.split(' ')
}

function archivesIn(host: OldHost): string[] {
  return filesIn(host.path('backups/app')).filter(path => !path.startsWith('.cairn/'))
}

function byHand(): { host: OldHost; env: Record<string, string> } {
  const host = oldHost({})
  randomFiles(host.path('data'), 1000)
  const env = {
    BACKUP_NAME: 'app',
    BACKUP_LOCAL_PATH: host.path('backups'),
    BACKUP_DIRS: host.path('data'),
    BACKUP_RETENTION_RECENT: '1',
  }
  return { host, env }
}

test('sidecar: a backup by hand ends with retention, also when a part is missing, and the last complete one stays', async () => {
  const { host, env } = byHand()
  mkdirSync(host.path('backups/app'), { recursive: true })
  for (const day of ['01', '02'])
    sh(`tar -cz -C "$DATA" . > "$TO/app-2025-01-${day}-020000.tar.gz"`, undefined, {
      DATA: host.path('data'),
      TO: host.path('backups/app'),
    })
  const whole = await host.cairn(backupNow(), env)
  assert.equal(whole.code, 0, whole.stderr)
  const [complete = '', ...others] = archivesIn(host)
  assert.deepEqual(others, [])
  assert.doesNotMatch(complete, /2025-01/)
  const partly = { ...env, BACKUP_DIRS: `${env.BACKUP_DIRS},${host.path('nowhere')}` }
  const left: string[][] = []
  for (let n = 0; n < 2; n++) {
    const ran = await host.cairn(backupNow(), partly)
    assert.equal(ran.code, 3, ran.stderr)
    left.push(archivesIn(host))
  }
  assert.deepEqual(
    left.map(names => [names.length, names[0]]),
    Array(2).fill([2, complete]),
  )
  assert.notEqual(left[0]?.[1], left[1]?.[1])
  // Whoever says only "backup" keeps everything.
  assert.equal((await host.cairn(['backup'], env)).code, 0)
  assert.equal(archivesIn(host).length, 3)
})

test('a store that is down does not keep retention from the others', async () => {
  const host = machine()
  host.configure({
    stores: {
      disk: { type: 'local', path: host.path('disk') },
      other: { type: 'local', path: host.path('other') },
    },
    jobs: {
      data: {
        source: { type: 'files', paths: [randomFiles(host.path('data'), 1000)] },
        ...{ to: ['disk', 'other'], keep: { last: 1 }, undelete: '0 s' },
      },
    },
  })
  await host.ok(['backup'])
  await host.ok(['backup'])
  writeFileSync(host.path('file'), '')
  const before = await listed(host)
  assert.equal(before.length, 2)
  sh('mv "$AT/other" "$AT/away"; mv "$AT/file" "$AT/other"', undefined, { AT: host.folder })
  const ran = await host.run(['backup', '--prune'])
  assert.equal(ran.code, 3, ran.stderr)
  const names = (await listed(host, '--store', 'disk')).map(({ id }) => id)
  assert.equal(names.length, 1)
  assert.ok(!before.some(({ id }) => names.includes(id)))
  sh('rm "$AT/other"; mv "$AT/away" "$AT/other"', undefined, { AT: host.folder })
  assert.equal((await listed(host, '--store', 'other')).length, 2)
})

test('where nothing was stored, nothing goes', async () => {
  const host = machine()
  const path = sqliteFile(host.path('shop.db'), 2000)
  host.configure({
    stores: { disk: { type: 'local', path: host.path('disk') } },
    jobs: { shop: { source: { type: 'sqlite', path }, to: ['disk'], keep: { last: 1 }, undelete: '0 s' } },
  })
  for (let n = 0; n < 2; n++) await host.ok(['backup'])
  writeFileSync(path, readFileSync(path).fill(0xff, 40_960))
  const ran = await host.run(['backup', '--prune'])
  assert.equal(ran.code, 1, ran.stderr)
  assert.match(ran.stderr, /is damaged/)
  assert.equal((await listed(host)).length, 2)
})

test('sidecar: what is optional and missing is told as a warning', async () => {
  const { host, env } = byHand()
  const dirs = `${env.BACKUP_DIRS},${host.path('nowhere')}`
  const ran = await host.cairn(['backup'], { ...env, BACKUP_DIRS: dirs, BACKUP_OPTIONAL: 'nowhere' })
  assert.equal(ran.code, 0, ran.stderr)
  assert.match(
    ran.stderr,
    /warning: nowhere\.tar\.gz is not in the archive, and is optional: .*does not exist/,
  )
  const [run] = (await host.cairn(['runs', '--json'], env)).json<{ id: string }[]>()
  assert.match((await host.cairn(['runs', run?.id ?? ''], env)).out, /warning: nowhere\.tar\.gz is not/)
})

test('an environment that is wrong is told to the failure webhook that it names, by whoever would back up', async () => {
  await using server = await webhookServer()
  const { env } = byHand()
  const urls = { BACKUP_FAILURE_WEBHOOK: `"${server.origin}/fail"`, BACKUP_SUCCESS_WEBHOOK: 'nonsense' }
  const sidecar = oldHost({ ...env, ...urls, BACKUP_RETENTION_DAYS: 'x' })
  for (const command of ['run', 'serve', 'backup']) {
    rmSync(join(sidecar.state, 'told.json'), { force: true })
    assert.equal((await sidecar.cairn([command])).code, 2)
  }
  assert.equal((await sidecar.cairn(['list'])).code, 2)
  // What is told has a name, and no secret.
  const moonflower = oldHost({
    ...{ PG_DATABASES: 'a', PG_PASSWORD: 's3cr3t-word', S3_EXPIRES_IN: 'soon' },
    ...{ WEBHOOK_FAILURE_FILE: sidecar.path('url'), WEBHOOK_POST_LOGS: 'y' },
  })
  writeFileSync(sidecar.path('url'), `${server.origin}/moon\n`)
  const ran = await moonflower.cairn(['run'])
  assert.equal(ran.code, 2, ran.stderr)
  assert.deepEqual(server.words(), ['fail', 'fail', 'fail', 'moon'])
  const [form, , , text] = server.calls
  assert.equal(form?.type, 'application/x-www-form-urlencoded')
  assert.match(form?.body ?? '', /exit 2[\s\S]*BACKUP_RETENTION_DAYS: expected a whole number.*found "x"/)
  assert.match(text?.body ?? '', /S3_EXPIRES_IN: expected a duration/)
  assert.ok(!text?.body.includes('s3cr3t-word'))
  // Of a file that is the configuration, the environment says nothing.
  sidecar.configure('jobs: { x: 1 }')
  assert.equal((await sidecar.cairn(['--config', sidecar.config, 'run'])).code, 2)
  assert.equal(server.calls.length, 4)
})

test('a container that is restarted with the same wrong environment tells it once, and another fault at once', async () => {
  await using server = await webhookServer()
  const { env } = byHand()
  const wrong = { ...env, BACKUP_FAILURE_WEBHOOK: `${server.origin}/fail`, BACKUP_RETENTION_DAYS: 'x' }
  const host = oldHost(wrong)
  for (let start = 0; start < 2; start++) assert.equal((await host.cairn(['run'])).code, 2)
  assert.deepEqual(server.words(), ['fail'])
  assert.equal((await host.cairn(['run'], { BACKUP_RETENTION_DAYS: 'y' })).code, 2)
  assert.deepEqual(server.words(), ['fail', 'fail'])
  assert.match(server.calls[1]?.body ?? '', /found "y"/)
  // Where nothing can be remembered, it is told rather once too often.
  for (let start = 0; start < 2; start++)
    assert.equal((await host.cairn(['run'], { CAIRN_STATE: '/proc/none' })).code, 2)
  assert.equal(server.calls.length, 4)
})

test('a webhook that cannot be told is a warning; the error stays', async () => {
  const { env } = byHand()
  const host = oldHost({ ...env, BACKUP_RETENTION_DAYS: 'x', BACKUP_FAILURE_WEBHOOK: 'nonsense' })
  const ran = await host.cairn(['run'])
  assert.equal(ran.code, 2)
  assert.match(
    ran.stderr,
    /warning: the failure webhook was not delivered[\s\S]*error: the environment is not one/,
  )
})

test('sidecar: in the image, the health check writes nothing into the log that people read', () => {
  const { env } = byHand()
  const host = oldHost({})
  const log = host.path('backup.log')
  const here = (name: string): string => {
    const text = readFileSync(join(scripts, name), 'utf8')
      .replaceAll('/opt/cairn/bin/cairn', resolve(scripts, '../../bin/cairn'))
      .replaceAll('/var/log/backup.log', log)
      .replaceAll(/(?<=^|\s)\/entrypoint(?= )/gm, host.path('entrypoint'))
    writeFileSync(host.path(name), text, { mode: 0o755 })
    return host.path(name)
  }
  const wrong = { ...env, BACKUP_RETENTION_DAYS: 'x', CAIRN_STATE: host.state, PATH: process.env.PATH }
  const ran = (...[program = '', ...args]: string[]): number | null =>
    spawnSync(program, args, { env: wrong, cwd: host.folder }).status
  const entrypoint = here('entrypoint')
  assert.equal(ran(here('healthy')), 0)
  assert.ok(!existsSync(log), existsSync(log) ? readFileSync(log, 'utf8') : '')
  assert.equal(ran(entrypoint, 'status', '--watched'), 2)
  assert.match(readFileSync(log, 'utf8'), /BACKUP_RETENTION_DAYS/)
})

test('sidecar: in the image, half a configuration waits and says what is missing; what is wrong ends', async t => {
  const script = readFileSync(join(scripts, 'entrypoint'), 'utf8')
  const [, words = ''] = /^ {4}''\) set -- \$cairn (.*) ;;$/m.exec(script) ?? []
  const half = oldHost({})
  await using server = await webhookServer()
  const env = { BACKUP_NAME: 'app', BACKUP_FAILURE_WEBHOOK: `${server.origin}/fail` }
  const waiting = half.start(words.split(' '), { env })
  t.after(() => waiting.child.kill('SIGKILL'))
  await waiting.said(/BACKUP_LOCAL_PATH: expected[\s\S]*it is not set[\s\S]*waiting to be stopped/)
  assert.deepEqual(server.words(), ['fail'])
  waiting.child.kill('SIGTERM')
  const { code, stderr } = await waiting.ended
  assert.equal(code, 143, stderr)
  assert.equal((await half.run(words.split(' '), { env: { BACKUP_NAME: 'a/b' } })).code, 2)
  assert.equal((await half.run(['run'], { env: { BACKUP_NAME: 'app' } })).code, 2)
})
