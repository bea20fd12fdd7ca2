import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { machine } from '../support/cli.ts'

test('config show prints what the environment of a replaced tool means, as other commands take it', async () => {
  const host = machine()
  const env = {
    BACKUP_DATABASES: 'shop',
    PGHOST: 'db.example',
    UPLOAD_PREFIX: '/mnt/x',
    RCLONE_CONFIG: '',
    RCLONE_CONFIG_STORE_TYPE: 'sftp',
  }
  const connection = { REMOTE_NAME: ':sftp,host=nas,pass=geheim' }
  const shown = await host.ok(['config', 'show'], { env: { ...env, ...connection } })
  assert.match(shown.out, /databases:\n *- shop\n/)
  assert.match(shown.out, /remote: remote:\/mnt\/x\n/)
  assert.doesNotMatch(shown.out, /geheim/)
  const broken = { ...env, REMOTE_NAME: ':s3,secret_access_key="geheim' }
  for (const what of ['show', 'from-env']) {
    const { code, stdout, stderr } = await host.run(['config', what], { env: broken })
    assert.equal(code, 2)
    assert.match(stderr, /REMOTE_NAME: expected/)
    assert.doesNotMatch(`${stdout}${stderr}`, /geheim/)
  }
  const stores = { mine: { type: 'local', path: '/from/the/file' } }
  host.configure({ stores })
  writeFileSync(host.path('cairn.yaml'), JSON.stringify({ stores }))
  const there = { cwd: host.path() }
  assert.match((await host.ok(['config', 'show'], { ...there, env })).out, /from\/the\/file/)
  const meant = { CAIRN_DIALECT: 'rclone', CAIRN_CONFIG: '' }
  assert.match((await host.ok(['config', 'show'], { ...there, env: { ...env, ...meant } })).out, /- shop/)
  const flag = ['--config', host.config]
  const flagged = await host.ok(['config', 'show', ...flag], { ...there, env: { ...env, ...meant } })
  assert.match(flagged.out, /from\/the\/file/)
})
