// Starts each service when it is first asked for, once, and stops all of them.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { startAzurite } from './azurite.ts'
import { startDocker } from './docker.ts'
import { type Facts, type ServiceName, ServiceUnavailable } from './facts.ts'
import { startMariadb, startMysql } from './mariadb.ts'
import { startMongodb } from './mongodb.ts'
import { type MariadbSeries, mariadbSeries, type PostgresMajor, postgresMajors } from './places.ts'
import { startPostgres } from './postgres.ts'
import { type Daemon, type DaemonOptions, startDaemon, stopDaemons } from './process.ts'
import { startCeph16, startS3, startServeS3 } from './s3.ts'
import { startSftp } from './sftp.ts'
import { startSmb } from './smb.ts'
import { startWebdav } from './webdav.ts'

/** What a service is given to start with. */
export interface Starting {
  /** Its own folder, new and empty, which any user may enter. */
  dir: string
  /** Starts a server that is stopped at the end; its output goes to `<dir>/log`. */
  daemon(command: string, args: string[], options: Omit<DaemonOptions, 'log'>): Daemon
}

export interface Registry {
  /** Rejects with `ServiceUnavailable`, or with an error that holds the end of the server's log. */
  get(name: ServiceName, variant?: number): Promise<Facts[ServiceName]>
  /** Stops everything; synchronous, and may be repeated. Asking afterwards is an error. */
  stop(): void
}

/** `dir` holds a folder for each service; removing it is the caller's. */
export function createRegistry(dir: string): Registry {
  const daemons: Daemon[] = []
  const started = new Map<string, Promise<Facts[ServiceName]>>()
  let stopped = false

  function starting(folder: string): Starting {
    const own = join(dir, folder)
    mkdirSync(own, { recursive: true, mode: 0o755 })
    return {
      dir: own,
      daemon(command, args, options) {
        if (stopped) throw new Error('the services have been stopped')
        const daemon = startDaemon(command, args, { ...options, log: join(own, 'log') })
        daemons.push(daemon)
        return daemon
      },
    }
  }

  function start(name: ServiceName, variant?: number): Promise<Facts[ServiceName]> {
    switch (name) {
      case 'postgres':
        return startPostgres(starting(`postgres-${variant}`), postgresMajor(variant))
      case 'mariadb':
        return startMariadb(starting(`mariadb-${variant}`), mariadbVersion(variant))
      case 'mysql':
        return startMysql(starting('mysql'))
      case 'mongodb':
        return startMongodb(starting('mongodb'))
      case 's3':
        return startS3(starting('s3'))
      case 's3-ceph16':
        return startCeph16(starting('s3-ceph16'))
      case 's3-rclone':
        return startServeS3(starting('s3-rclone'))
      case 'sftp':
        return startSftp(starting('sftp'))
      case 'webdav':
        return startWebdav(starting('webdav'))
      case 'docker':
        return startDocker(starting('docker'), false)
      case 'docker-alone':
        return startDocker(starting('docker-alone'), true)
      case 'smb':
        return startSmb(starting('smb'))
      case 'azurite':
        return startAzurite(starting('azurite'))
    }
  }

  return {
    async get(name, variant) {
      if (process.platform !== 'linux')
        throw new ServiceUnavailable(`services are for Linux, not ${process.platform}`)
      const key = `${name} ${variant ?? ''}`
      const facts = started.get(key) ?? start(name, variant)
      started.set(key, facts)
      return await facts
    },
    stop() {
      stopped = true
      stopDaemons(daemons.splice(0))
    },
  }
}

function postgresMajor(variant: number | undefined): PostgresMajor {
  const major = postgresMajors.find(known => known === variant)
  if (major === undefined) throw new Error(`no PostgreSQL ${variant}; there are ${postgresMajors.join(', ')}`)
  return major
}

function mariadbVersion(variant: number | undefined): MariadbSeries {
  const series = mariadbSeries.find(known => Number(known) === variant)
  if (series === undefined) throw new Error(`no MariaDB ${variant}; there are ${mariadbSeries.join(', ')}`)
  return series
}
