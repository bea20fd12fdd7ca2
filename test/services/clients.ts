// PostgreSQL, MariaDB and MySQL of newer Debian releases, made to run on this one.
//
// Its programs want a newer libc than the machine has. So each gets a small script that starts it through its own
// tree's dynamic loader. No root, no chroot: paths, sockets and users are the machine's. A PostgreSQL program finds its
// neighbours and its share folder from where it lies itself; told by --argv0 that it is the script, it finds scripts.

import { existsSync } from 'node:fs'
import { chmod, mkdir, readdir, readFile, readlink, rename, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { cache, mariadbClients, mysqlClients, postgresClients, sid, type Tree, trixie } from './places.ts'

const machine =
  { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch as string] ?? process.arch
const loader = process.arch === 'arm64' ? 'lib/ld-linux-aarch64.so.1' : 'lib64/ld-linux-x86-64.so.2'

/** Lays out `<cache>/postgresql/<major>/bin`, and the same for mariadb and mysql. May be repeated; what is already right is not touched. */
export async function layOutClients(): Promise<void> {
  // The compiled-in bin and share folders differ from lib/... and share/... on; only so are they found when moved.
  await mkdir(join(cache, 'lib/postgresql/15'), { recursive: true })
  await mkdir(join(cache, 'share/postgresql'), { recursive: true })
  await link('lib/postgresql', postgresClients)
  await link('/usr/lib/postgresql/15/bin', join(postgresClients, '15/bin'))
  await layOut(trixie, '17')
  await layOut(sid, '18')
  for (const [name, folder] of Object.entries({ mariadb: 'bin', 'mariadb-dump': 'bin', mariadbd: 'sbin' })) {
    await link(join('/usr', folder, name), join(mariadbClients, '10.11/bin', name))
    await scriptIfThere(join(mariadbClients, '11.8/bin', name), join('usr', folder, name), trixie)
  }
  for (const [name, folder] of Object.entries({ mysql: 'bin', mysqldump: 'bin', mysqld: 'sbin' }))
    await scriptIfThere(join(mysqlClients, '9.7/bin', name), join('usr', folder, name), sid)
}

async function scriptIfThere(path: string, program: string, { root }: Tree): Promise<void> {
  if (!existsSync(join(root, program))) return
  await mkdir(dirname(path), { recursive: true })
  await script(path, join(root, program), root)
}

async function layOut(tree: Tree, major: string): Promise<void> {
  const installed = join(tree.root, 'usr/lib/postgresql', major)
  const home = join(cache, 'lib/postgresql', major)
  if (!existsSync(installed)) return
  await mkdir(join(home, 'bin'), { recursive: true })
  await link(join(installed, 'lib'), join(home, 'lib'))
  await link(join(tree.root, 'usr/share/postgresql', major), join(cache, 'share/postgresql', major))
  for (const program of await readdir(join(installed, 'bin'))) {
    await script(join(home, 'bin', program), join(installed, 'bin', program), tree.root)
  }
}

async function script(path: string, program: string, root: string): Promise<void> {
  const libraries = ['lib', 'usr/lib'].map(folder => join(root, folder, machine)).join(':')
  const start = `'${join(root, loader)}' --library-path '${libraries}' --argv0 '${path}'`
  const text = `#!/bin/sh\nexec ${start} '${program}' "$@"\n`
  if ((await readFile(path, 'utf8').catch(() => '')) === text) return
  await writeFile(`${path}.new`, text)
  await chmod(`${path}.new`, 0o755)
  await rename(`${path}.new`, path)
}

async function link(target: string, path: string): Promise<void> {
  if ((await readlink(path).catch(() => '')) === target) return
  await mkdir(dirname(path), { recursive: true })
  await symlink(target, `${path}.new`)
  await rename(`${path}.new`, path)
}
