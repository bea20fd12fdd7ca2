import { readFileSync } from 'node:fs'
import { askFor, type Docker, Refused } from './client.ts'

const mounted = ['/etc/hostname', '/etc/hosts', '/etc/resolv.conf']

/**
 * The id of the container that a process runs in, from its `/proc/self/mountinfo`; null in none. These files are mounted
 * into every container from a folder with its id; the host name may be another one, and the host itself sees the
 * folders of all containers, but not there.
 */
export function containerIn(mountinfo: string): string | null {
  for (const line of mountinfo.split('\n')) {
    const [, , , root = '', point = ''] = line.split(' ')
    const id = /containers\/([0-9a-f]{64})\//.exec(root)?.[1]
    if (id !== undefined && mounted.includes(point)) return id
  }
  return null
}

/** Who we are to Docker. `project`: the one that is asked for, else our own container's, else COMPOSE_PROJECT_NAME. */
export async function ourselves(
  docker: Docker,
  asked: string | undefined,
): Promise<{ self: string | null; project: string | null }> {
  const self = containerIn(readFileSync('/proc/self/mountinfo', 'utf8'))
  const own = self === null ? null : await projectOf(docker, self)
  return { self, project: asked ?? own ?? (process.env.COMPOSE_PROJECT_NAME || null) }
}

/** Null also where this engine does not know the container: DOCKER_HOST may be another machine. */
async function projectOf(docker: Docker, id: string): Promise<string | null> {
  try {
    const { Config } = await askFor<{ Config?: { Labels?: Record<string, string> | null } }>(
      docker,
      `/containers/${id}/json`,
    )
    return Config?.Labels?.['com.docker.compose.project'] ?? null
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return null
    throw error
  }
}
