// What a test learns of a service. Plain JSON: it may have come over a socket.

import type { PostgresMajor } from './places.ts'

export interface PostgresFacts {
  major: PostgresMajor
  host: string
  port: number
  /** A superuser, by scram over TCP and over the Unix socket; it may replicate. */
  user: string
  password: string
  /** The folder of the Unix socket. */
  socket: string
  /** The data folder. */
  data: string
  /** The folder of this version's server programs: initdb, pg_ctl, postgres. */
  bin: string
  /** Whom the server runs as on the machine, and whom another server must run as. */
  osUser: string
}

/** A MariaDB or MySQL server. */
export interface MariadbFacts {
  flavour: 'mariadb' | 'mysql'
  /** `10.11`, `11.8`, `9.7`. */
  series: string
  host: string
  port: number
  /** The path of the Unix socket. */
  socket: string
  /** May do everything, from this machine, by TCP and by the socket. */
  user: string
  password: string
  /** The folder of this version's client programs. */
  bin: string
  data: string
  pid: number
}

/** FerretDB: the protocol of MongoDB 7.0, without views, time series, validators and snapshots. */
export interface MongodbFacts {
  host: string
  port: number
  /** May do everything; is looked up in the database `test`. */
  user: string
  password: string
  /** All of it in one string, without a database. */
  uri: string
  /** MongoDB's own tools. */
  mongodump: string
  mongorestore: string
}

export interface S3Facts {
  /** http, path style only. */
  endpoint: string
  region: string
  accessKey: string
  secretKey: string
  /** Two more identities. They may do nothing until a bucket policy names `arn:aws:iam:::user/<name>`. */
  others: { name: string; accessKey: string; secretKey: string }[]
}

export interface SftpFacts {
  host: string
  port: number
  user: string
  /** A private key without a passphrase. */
  keyFile: string
  /** The only host key to be accepted, in OpenSSH's format. */
  knownHosts: string
  /** An absolute path, on both sides: there is no chroot. */
  folder: string
}

export interface WebdavFacts {
  url: string
  user: string
  password: string
  /** What is served, as a path of the machine. */
  folder: string
}

export interface DockerFacts {
  /** As DOCKER_HOST wants it; a socket that only root may use. */
  host: string
  /** The docker command, with buildx and compose if DOCKER_CONFIG is `config`. */
  program: string
  config: string
  /** SIGHUP restarts the engine. */
  pid: number
  /** Images named and filled like the official ones. They hold this machine's way to packages: never to be published. */
  debian: string
  node: string
}

export interface SmbFacts {
  host: string
  port: number
  user: string
  password: string
  /** The name of the share, and what it serves, as a path of the machine. */
  share: string
  folder: string
}

/** Azurite, to be spoken to as Azure is: by the names of Azure, which this proxy brings to it. */
export interface AzuriteFacts {
  account: string
  /** The account's, in Base64. */
  key: string
  /** `https://<account>.blob.core.windows.net`: by the proxy (of http), with a certificate of this authority. */
  url: string
  proxy: string
  caFile: string
  /** The same account without a proxy. */
  direct: string
}

export interface Facts {
  postgres: PostgresFacts
  mariadb: MariadbFacts
  mysql: MariadbFacts
  mongodb: MongodbFacts
  s3: S3Facts
  /** Of Debian 12: Ceph's gateway as it was in 2021, which knows no checksums, and drops what it does not know. */
  's3-ceph16': S3Facts
  /** `rclone serve s3`: no versions, no locks, no policies, no conditions. */
  's3-rclone': S3Facts
  sftp: SftpFacts
  webdav: WebdavFacts
  docker: DockerFacts
  /** Without a network, for one test file alone. */
  'docker-alone': DockerFacts
  smb: SmbFacts
  azurite: AzuriteFacts
}

export type ServiceName = keyof Facts

/** The service cannot be had on this machine; the message is the reason. Everything else is a failure. */
export class ServiceUnavailable extends Error {
  override name = 'ServiceUnavailable'
}
