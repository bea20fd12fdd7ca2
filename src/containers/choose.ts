/** A container as Docker lists it: what decides whether and when it is stopped. */
export interface Listed {
  readonly id: string
  readonly name: string
  /** `running`, `paused`, `restarting`, `exited`, `created`, `dead`, `removing`. */
  readonly state: string
  readonly labels: Readonly<Record<string, string>>
}

/** What a job wants of the containers of a machine. */
export interface Wanted {
  readonly job: string
  /** Exact names of containers, or services of the project. */
  readonly names: readonly string[]
  /** The compose project whose services may be named; null: none is known. */
  readonly project: string | null
  /** The id of our own container; null when we are in none. */
  readonly self: string | null
}

export interface Choice {
  /** Running ones, to be stopped and started again. */
  readonly stop: readonly Listed[]
  /** Running ones in which commands are to be run. */
  readonly exec: readonly { readonly container: Listed; readonly before?: string; readonly after?: string }[]
  /** What is odd and stops nothing, for a person: what, why, what to do. */
  readonly notes: readonly (readonly [what: string, why: string, remedy: string])[]
}

const compose = 'com.docker.compose.'
const label = {
  stop: 'cairn.stop',
  job: 'cairn.job',
  execBefore: 'cairn.exec-before',
  execAfter: 'cairn.exec-after',
} as const

/**
 * Which containers a job concerns: those named (a container of that very name, else all replicas of the project's service),
 * and those that say so by label. One-off containers of a service are none of it, and so are labels in another compose project:
 * two stacks on one machine may have jobs of one name. Pure.
 */
export function choose(all: readonly Listed[], wanted: Wanted): Choice {
  const notes: [string, string, string][] = []
  const found = wanted.names.flatMap(name => {
    const matching = named(all, name, wanted.project)
    if (matching.length === 0) notes.push(unknownName(name, wanted.project))
    return matching
  })
  const near = all.filter(each => isNear(each, wanted.project))
  const labelled = near.filter(({ labels }) => words(labels[label.stop]).includes(wanted.job))
  const chosen = [...new Set([...found, ...labelled])].filter(({ state }) => isRunning(state))
  const stop = chosen.filter(each => {
    const reason = untouchable(each, wanted.self)
    if (reason) notes.push([`container ${each.name} is not stopped`, ...reason])
    return !reason
  })
  return { stop, exec: near.flatMap(each => commandsOf(each, wanted.job)), notes }
}

function named(all: readonly Listed[], name: string, project: string | null): readonly Listed[] {
  const exact = all.filter(each => each.name === name)
  if (exact.length > 0 || project === null) return exact
  return all.filter(
    ({ labels }) =>
      labels[`${compose}project`] === project &&
      labels[`${compose}service`] === name &&
      labels[`${compose}oneoff`] !== 'True',
  )
}

function unknownName(name: string, project: string | null): [string, string, string] {
  const what = `nothing is stopped for "${name}"`
  if (project === null)
    return [
      what,
      'there is no container of that name, and no compose project is known whose service it could be',
      'write the name of a container, or say "project"',
    ]
  return [
    what,
    `there is no container of that name, and no service of the compose project ${project}`,
    'docker ps -a shows the names',
  ]
}

/** Paused and restarting ones are up as far as their users are concerned. */
function isRunning(state: string): boolean {
  return ['running', 'paused', 'restarting'].includes(state)
}

function isNear({ labels }: Listed, project: string | null): boolean {
  const own = labels[`${compose}project`]
  return project === null || own === undefined || own === project
}

/** Why a container must not be stopped by us: why, what to do. */
function untouchable({ id, labels }: Listed, self: string | null): [string, string] | null {
  if (id === self) return ['it is the one that Cairn runs in', 'take it out of the list']
  if (labels['com.docker.swarm.service.id'])
    return ['Swarm would start another one in its place', 'scale its service by hooks']
  return null
}

function commandsOf(container: Listed, job: string): Choice['exec'] {
  const { [label.execBefore]: before, [label.execAfter]: after, [label.job]: jobs } = container.labels
  if ((!before && !after) || container.state !== 'running') return []
  if (jobs !== undefined && !words(jobs).includes(job)) return []
  return [{ container, ...(before ? { before } : {}), ...(after ? { after } : {}) }]
}

function words(text: string | undefined): string[] {
  return (text ?? '')
    .split(',')
    .map(word => word.trim())
    .filter(Boolean)
}

/**
 * The order of stopping: who depends on others (compose's `depends_on`) comes before them; those of one level have nothing to do with
 * each other. Starting goes the opposite way. Pure.
 */
export function stopOrder<C extends Pick<Listed, 'labels'>>(containers: readonly C[]): C[][] {
  const levels: C[][] = []
  let left = [...containers]
  while (left.length > 0) {
    const free = left.filter(each => !left.some(other => other !== each && dependsOn(other, each)))
    // In a circle, which compose does not allow, nobody would ever be free.
    const level = free.length > 0 ? free : left
    levels.push(level)
    left = left.filter(each => !level.includes(each))
  }
  return levels
}

/** `depends_on` stands in a label as `db:service_healthy:false,cache:service_started:true`. */
function dependsOn(one: Pick<Listed, 'labels'>, other: Pick<Listed, 'labels'>): boolean {
  if (one.labels[`${compose}project`] !== other.labels[`${compose}project`]) return false
  const services = words(one.labels[`${compose}depends_on`]).map(each => each.split(':')[0])
  const service = other.labels[`${compose}service`]
  return service !== undefined && services.includes(service)
}
