// A WebDAV server: rclone serving a folder.

import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ServiceUnavailable, type WebdavFacts } from './facts.ts'
import { freePorts, until } from './process.ts'
import type { Starting } from './registry.ts'

const rclone = '/usr/bin/rclone'

export async function startWebdav(start: Starting): Promise<WebdavFacts> {
  if (!existsSync(rclone)) throw new ServiceUnavailable(`no ${rclone}`)
  const address = `127.0.0.1:${await freePorts()}`
  const facts: WebdavFacts = {
    url: `http://${address}/`,
    user: 'cairn',
    password: randomBytes(12).toString('hex'),
    folder: join(start.dir, 'files'),
  }
  await mkdir(facts.folder)
  const config = join(start.dir, 'rclone.conf')
  const daemon = start.daemon(
    rclone,
    ['serve', 'webdav', facts.folder, '--addr', address, '--config', config],
    {
      stopWith: 'SIGKILL',
      env: { RCLONE_USER: facts.user, RCLONE_PASS: facts.password },
    },
  )
  await until('rclone serve webdav', 20, daemon, () => fetch(facts.url, { method: 'OPTIONS' }))
  return facts
}
