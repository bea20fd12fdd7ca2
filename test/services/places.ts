// Where the tests keep what they download, and where the programs in there are.

import { join } from 'node:path'

/** Outlives runs and is shared by all checkouts on a machine; `CAIRN_TEST_CACHE` puts it elsewhere. */
export const cache = process.env.CAIRN_TEST_CACHE ?? '/var/tmp/cairn-test'

/** A folder holding a whole newer Debian, and what a test wants of it. */
export interface Tree {
  suite: string
  root: string
  packages: string[]
}

export const sid: Tree = {
  suite: 'sid',
  root: join(cache, 'sid'),
  packages: [
    ...['radosgw', 'ceph-mon', 'ceph-osd', 'ceph-common', 'curl', 'openssl'],
    ...['postgresql-18', 'postgresql-client-18', 'rclone'],
    ...['mysql-server-core', 'mysql-client-core'],
  ],
}

export const trixie: Tree = {
  suite: 'trixie',
  root: join(cache, 'trixie'),
  packages: [
    ...['postgresql-17', 'postgresql-client-17', 'mariadb-server-core', 'mariadb-client'],
    ...['docker.io', 'docker-cli', 'containerd', 'docker-compose', 'docker-buildx'],
  ],
}

/** A Docker engine's images and socket, and the Debian that its base image holds. */
export const docker = { folder: join(cache, 'docker'), release: 'bookworm' }

/** Laid out like /usr/lib/postgresql: `<major>/bin/pg_dump` for 15, 17 and 18. */
export const postgresClients = join(cache, 'postgresql')

/** Laid out as `<series>/bin/mariadb-dump` and `<series>/bin/mariadbd`, for 10.11 and 11.8. */
export const mariadbClients = join(cache, 'mariadb')
/** The same of MySQL: `9.7/bin/mysqldump` and `9.7/bin/mysqld`. */
export const mysqlClients = join(cache, 'mysql')

export const mariadbSeries = ['10.11', '11.8'] as const
export type MariadbSeries = (typeof mariadbSeries)[number]

/** A current rclone; the machine's own, 1.60 on Debian 12, is `rclone`. */
export const newerRclone = join(sid.root, 'usr/bin/rclone')

/** Programs that Debian has not got, built by Go where there is Go. */
export const goPrograms = join(cache, 'go')

/** Where npm puts the servers that Debian has not got. */
export const npmServers = join(cache, 'npm')

/** Where npm puts the emulator of Azure Blob Storage. */
export const azurite = join(cache, 'azurite')

/** The same rclone with what Debian leaves out: Azure Blob Storage, and serving S3. */
export const fullerRclone = join(goPrograms, 'rclone')

export const postgresMajors = [13, 14, 15, 16, 17, 18] as const
export type PostgresMajor = (typeof postgresMajors)[number]

/** The folder of `initdb`, `pg_ctl` and `postgres` of a major version. */
export function postgresServer(major: PostgresMajor): string {
  if (major === 13 || major === 14 || major === 16) {
    return join(npmServers, `node_modules/postgres-${major}-linux-x64/native/bin`)
  }
  return join(postgresClients, String(major), 'bin')
}
