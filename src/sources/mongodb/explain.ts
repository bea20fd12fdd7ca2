import { Failure, usage } from '../../model/failure.ts'

/** What the server refused, by its code (MongoDB source, error_codes.yml), and what to do. */
const remedies: Readonly<Record<number, string>> = {
  11: 'check user and password',
  13: 'grant the user what it lacks: the role "backup" to back up all, "read" on a database for that one, "restore" or "readWrite" to restore',
  18: 'check user and password, and authSource: without it the user is looked up in the database that the URI names, else in admin',
  26: 'a collection was dropped while it was read: run again when no migration runs',
  43: 'run again: the server has closed the cursor',
  48: 'drop or rename the collection that is in the way',
  50: 'raise maxTimeMS or leave it out',
  91: 'run again: the server is shutting down',
  121: 'grant the user bypassDocumentValidation (the role "restore"), or drop the validator',
  175: 'a collection was dropped while it was read: run again when no migration runs',
  189: 'run again: the primary has stepped down',
  237: 'run again: the server has closed the cursor',
  239: 'raise minSnapshotHistoryWindowInSeconds at the server above the time that a backup takes, or say "snapshot: false"',
  246: 'run again when no migration runs, or say "snapshot: false"',
  8000: 'check user and password',
  11000:
    'a unique index does not fit the documents: the backup was made while they were written; restore another one',
  14031: 'free some space at the server',
}

/** The server's code behind an error; 0 where there is none. */
export function codeOf(error: unknown): number {
  const from = error instanceof Failure ? error.cause : error
  const code = (from as { code?: unknown } | null | undefined)?.code
  return typeof code === 'number' ? code : 0
}

/** Why nobody could be reached or nobody let us in, and what to do. `where` holds no secrets. */
export function explainConnect(error: unknown, where: string): Failure {
  if (error instanceof Failure) return error
  const message = messageOf(error)
  return new Failure({
    what: `cannot connect to ${where}`,
    why: message,
    remedy: remedies[codeOf(error)] ?? connectRemedy(message),
    cause: error,
  })
}

function connectRemedy(message: string): string {
  if (/ENOTFOUND|EAI_AGAIN|querySrv/.test(message))
    return 'check the name of the host; in a container, the network it is in'
  if (/certificate|self.signed|altnames|issuer|SSL|TLS/i.test(message))
    return 'check tls, tlsCAFile and tlsCertificateKeyFile of the URI, and the certificate of the server'
  if (/ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|timed out|ECONNRESET|socket/i.test(message))
    return 'check that the server runs, and its host, port and firewalls; a server that wants TLS closes the connection: tls=true'
  if (/Optional module|Cannot find (module|package)/i.test(message))
    return 'this option of the URI needs a module that Cairn does not bring: leave it out'
  if (/replica set|setName|primary|Server selection/i.test(message))
    return 'check that the replica set has a primary, and replicaSet; directConnection=true speaks to the one host alone'
  return 'check the URI'
}

/** Why the server refused what was asked of it. */
export function explain(error: unknown, what: string): Failure {
  if (error instanceof Failure) return error
  const code = codeOf(error)
  return new Failure({
    what,
    why: messageOf(error),
    remedy: remedies[code] ?? (code === 0 ? connectRemedy(messageOf(error)) : 'see the log of the server'),
    cause: error,
  })
}

/** A URI that cannot be read. The driver's words may quote it, password and all. */
export function explainUri(error: unknown, uri: string, where: string): Failure {
  const said = messageOf(error)
    .replaceAll(uri, 'the URI')
    .replace(/mongodb(\+srv)?:\/\/\S*/g, 'the URI')
  return usage(
    `cannot read the URI of MongoDB from ${where}`,
    said,
    'write it as mongodb://user:password@host:port/database?authSource=admin, with special characters percent-encoded: @ is %40, / is %2F, % is %25',
  )
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error)
}
