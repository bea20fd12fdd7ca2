// budget: 240 s
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { describe, type TestContext } from 'node:test'
import { newerRclone, service } from '../../test/services/index.ts'
import { testContext } from '../../test/support/context.ts'
import { type Opened, storeContract } from '../../test/support/store-contract.ts'
import { RcloneOptions, rcloneStore } from './rclone.ts'

const programs = ['rclone', newerRclone]

for (const program of programs) {
  const skip = program === 'rclone' || existsSync(program) ? {} : { skip: `no ${program}` }
  const version = program === 'rclone' ? 'old rclone' : 'new rclone'
  describe(version, { concurrency: 6 }, () => {
    storeContract('a local folder', async t => opened(t, await localFolder(t), program), skip)
    storeContract('SFTP', async t => opened(t, await sftpFolder(t), program), skip)
    storeContract('WebDAV', async t => opened(t, await webdavFolder(t), program), skip)
  })
}

interface Place {
  readonly folder: string
  readonly options: Omit<Parameters<typeof RcloneOptions.parse>[0] & object, 'program'>
}

async function opened(t: TestContext, { folder, options }: Place, program: string): Promise<Opened> {
  const store = rcloneStore('remote', RcloneOptions.parse({ config: '/dev/null', program, ...options }))
  t.after(() => store.close())
  await store.probe(testContext())
  const files = async () =>
    (await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])).filter(entry =>
      entry.isFile(),
    )
  return {
    store,
    leftovers: async () =>
      (await files())
        .map(entry => relative(folder, join(entry.parentPath, entry.name)))
        .filter(name => name.endsWith('.partial')),
  }
}

async function localFolder(t: TestContext): Promise<Place> {
  const folder = await temporary(t, tmpdir())
  return { folder, options: { remote: folder } }
}

async function sftpFolder(t: TestContext): Promise<Place> {
  const facts = await service('sftp')
  const folder = await temporary(t, facts.folder)
  const options = {
    type: 'sftp',
    host: facts.host,
    port: String(facts.port),
    user: facts.user,
    key_file: facts.keyFile,
    known_hosts_file: facts.knownHosts,
    // rclone would have md5sum run over ssh for every object; one test below lets it.
    disable_hashcheck: 'true',
  }
  return { folder, options: { remote: `nas:${folder}`, options } }
}

async function webdavFolder(t: TestContext): Promise<Place> {
  const facts = await service('webdav')
  const folder = await temporary(t, facts.folder)
  const pass = await obscured(facts.password)
  const options = { type: 'webdav', url: facts.url, vendor: 'other', user: facts.user, pass }
  return { folder, options: { remote: `dav:${relative(facts.folder, folder)}`, options } }
}

async function temporary(t: TestContext, parent: string): Promise<string> {
  const folder = await mkdtemp(join(parent, 'remote-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

async function obscured(password: string): Promise<string> {
  const { run } = await import('../../test/services/process.ts')
  return (await run('rclone', ['obscure', password])).trim()
}
