import { lookup } from 'node:dns/promises'
import { askFor, type Docker, Refused } from './client.ts'

/** A server of a database, as its clients name it. */
export interface Server {
  readonly host: string
  readonly port: number
}

/** The same, with the addresses that its name stands for here. */
export interface Located extends Server {
  readonly addresses: readonly string[]
}

/** A container as Docker's inspect shows it: what it is reached by. */
export interface Reachable {
  readonly Id: string
  readonly Config: { readonly Labels?: Readonly<Record<string, string>> | null }
  readonly HostConfig: { readonly NetworkMode?: string }
  readonly NetworkSettings: {
    readonly Networks?: Readonly<Record<string, Network>> | null
    readonly Ports?: Readonly<Record<string, readonly { readonly HostPort?: string }[] | null>> | null
  }
}

interface Network {
  readonly NetworkID?: string
  readonly IPAddress?: string
  readonly GlobalIPv6Address?: string
  readonly Aliases?: readonly string[] | null
  readonly DNSNames?: readonly string[] | null
}

/**
 * Whether a server runs in a container of this name: it has one of its addresses; or its name, its service or an alias is
 * that of the server, on a network that is ours too; or it publishes the server's port on the machine that we are on. `ours`: the container
 * that we run in; null: in none, or in one that this engine does not know. Pure.
 */
export function serves(name: string, container: Reachable, server: Located, ours: Reachable | null): boolean {
  const networks = Object.values(container.NetworkSettings.Networks ?? {})
  const known = [server.host, ...server.addresses]
  if (networks.some(each => [each.IPAddress, each.GlobalIPv6Address].some(at => at && known.includes(at))))
    return true
  const near = ours === null ? networks : networks.filter(each => idsOf(ours).includes(each.NetworkID ?? ''))
  const service = container.Config.Labels?.['com.docker.compose.service'] ?? name
  const names = near.flatMap(each => [name, service, ...(each.Aliases ?? []), ...(each.DNSNames ?? [])])
  if (names.some(each => each.toLowerCase() === server.host.toLowerCase())) return true
  if (ours?.HostConfig.NetworkMode === `container:${container.Id}`) return known.some(isLoopback)
  return isMachine(server, ours) && publishes(container, server.port)
}

function idsOf({ NetworkSettings: { Networks } }: Reachable): string[] {
  return Object.values(Networks ?? {}).flatMap(({ NetworkID }) => (NetworkID ? [NetworkID] : []))
}

/** Whether the server's address is that of the machine whose ports containers publish. */
function isMachine({ host, addresses }: Located, ours: Reachable | null): boolean {
  if (host === 'host.docker.internal') return true
  return (ours === null || ours.HostConfig.NetworkMode === 'host') && [host, ...addresses].some(isLoopback)
}

function isLoopback(address: string): boolean {
  return /^(localhost|127\..*|::1)$/i.test(address)
}

function publishes({ NetworkSettings: { Ports } }: Reachable, port: number): boolean {
  return Object.values(Ports ?? {}).some(bindings =>
    bindings?.some(({ HostPort }) => HostPort === String(port)),
  )
}

/** Tells which of the servers runs in a container, as `db:5432`; null: none. `self`: the container that we run in. */
export async function servingOf(
  engine: Docker,
  servers: readonly Server[],
  self: string | null,
): Promise<(container: { readonly id: string; readonly name: string }) => Promise<string | null>> {
  if (servers.length === 0) return async () => null
  const known = await Promise.all(servers.map(located))
  const ours = self === null ? null : await inspected(engine, self)
  return async ({ id, name }) => {
    const container = await inspected(engine, id)
    const found = container && known.find(server => serves(name, container, server, ours))
    return found ? `${found.host}:${found.port}` : null
  }
}

/** Null for one that this engine does not know. */
async function inspected(engine: Docker, id: string): Promise<Reachable | null> {
  try {
    return await askFor<Reachable>(engine, `/containers/${id}/json`)
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return null
    throw error
  }
}

async function located(server: Server): Promise<Located> {
  const found = await lookup(server.host, { all: true }).catch(() => [])
  return { ...server, addresses: found.map(({ address }) => address) }
}
