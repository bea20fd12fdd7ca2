// Azure Blob Storage, emulated by Microsoft's own Azurite.
//
// rclone before 1.61 knows accounts by the names of Azure alone, and by TLS. So it is spoken to as people speak to Azure: a proxy
// brings `https://<account>.blob.core.windows.net` here, with a certificate of our own. It asks for what a SAS allows as Azure does.

import { createHmac, randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { request } from 'node:https'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { type AzuriteFacts, ServiceUnavailable } from './facts.ts'
import { azurite } from './places.ts'
import { freePorts, run, until } from './process.ts'
import type { Starting } from './registry.ts'

const program = join(azurite, 'node_modules/azurite/dist/src/blob/main.js')

export async function startAzurite(start: Starting): Promise<AzuriteFacts> {
  if (!existsSync(program)) throw new ServiceUnavailable(`no Azurite in ${azurite}`)
  const [account, key] = ['cairntest', randomBytes(32).toString('base64')]
  const [keyFile, caFile] = await certificate(start.dir)
  const port = await freePorts(2)
  const data = join(start.dir, 'data')
  await mkdir(data)
  const daemon = start.daemon(
    process.execPath,
    [
      program,
      ...['--blobHost', '127.0.0.1', '--blobPort', String(port), '--location', data, '--silent'],
      ...['--cert', caFile, '--key', keyFile, '--skipApiVersionCheck', '--oauth', 'basic'],
    ],
    { stopWith: 'SIGKILL', env: { AZURITE_ACCOUNTS: `${account}:${key}` } },
  )
  const way = join(import.meta.dirname, 'azurite-proxy.ts')
  start.daemon(process.execPath, [way, String(port + 1), String(port)], { stopWith: 'SIGKILL' })
  const facts: AzuriteFacts = {
    ...{ account, key, caFile },
    url: `https://${account}.blob.core.windows.net`,
    direct: `https://127.0.0.1:${port}/${account}`,
    proxy: `http://127.0.0.1:${port + 1}`,
  }
  await until('Azurite', 30, daemon, () => ask(facts, 'GET', '?comp=list'))
  await until('the proxy to Azurite', 30, daemon, () => fetch(facts.proxy))
  return facts
}

/** The key and the certificate, which is its own authority. */
async function certificate(dir: string): Promise<[string, string]> {
  const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const names = 'subjectAltName=DNS:*.blob.core.windows.net,IP:127.0.0.1'
  await run('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
    ...['-subj', '/CN=cairn-test', '-addext', names, '-keyout', key, '-out', cert],
  ])
  return [key, cert]
}

/** A request to the account itself, `/container?restype=container`, that may do everything; the body of its answer. */
export async function ask(facts: AzuriteFacts, method: 'GET' | 'PUT', path: string): Promise<Buffer> {
  const url = `${facts.direct}${path}${path.includes('?') ? '&' : '?'}${accountSas(facts)}`
  const headers = { 'x-ms-version': version, ...(method === 'PUT' && { 'content-length': '0' }) }
  const ca = readFileSync(facts.caFile)
  return await new Promise((resolve, reject) => {
    const sent = request(url, { method, headers, ca }, async response => {
      const said = await buffer(response)
      if ((response.statusCode ?? 500) < 300) resolve(said)
      else reject(new Error(`Azurite: ${response.statusCode} ${said}`))
    })
    sent.on('error', reject).end()
  })
}

/**
 * The names of the blobs of a container that hold something: to have an upload cleared away, rclone commits it empty and deletes
 * that. With `unfinished`, of all, and also of those that have nothing but blocks.
 */
export async function blobsIn(facts: AzuriteFacts, container: string, unfinished = false): Promise<string[]> {
  const include = unfinished ? '&include=uncommittedblobs' : ''
  const said = await ask(facts, 'GET', `/${container}?restype=container&comp=list${include}`)
  const blobs = [...said.toString().matchAll(/<Blob>([\s\S]*?)<\/Blob>/g)].map(([, blob = '']) => blob)
  const holding = blobs.filter(blob => unfinished || !/<Content-Length>0</.test(blob))
  return holding.map(blob => /<Name>([^<]*)</.exec(blob)?.[1] ?? '')
}

const version = '2021-08-06'
const forever = '2099-01-01T00:00:00Z'

/** A shared access signature of the whole account. */
function accountSas(facts: Pick<AzuriteFacts, 'account' | 'key'>): string {
  const [sp, ss, srt] = ['rwdlac', 'b', 'sco']
  const signed = [facts.account, sp, ss, srt, '', forever, '', '', version, '', '']
  return String(new URLSearchParams({ sp, ss, srt, se: forever, sv: version, sig: signature(facts, signed) }))
}

/** One that allows this in one container: r read, a add, c create, w write, d delete, l list. */
export function containerSas(
  facts: Pick<AzuriteFacts, 'account' | 'key'>,
  container: string,
  sp: string,
): string {
  const place = `/blob/${facts.account}/${container}`
  const signed = [sp, '', forever, place, '', '', 'https', version, 'c', '', '', '', '', '', '', '']
  const sig = signature(facts, signed)
  return String(new URLSearchParams({ sp, se: forever, spr: 'https', sv: version, sr: 'c', sig }))
}

function signature({ key }: Pick<AzuriteFacts, 'key'>, lines: readonly string[]): string {
  return createHmac('sha256', Buffer.from(key, 'base64')).update(lines.join('\n')).digest('base64')
}
