// Faults of a configuration that no value shows by itself.

import { resolve } from 'node:path'
import type { Config, ToConfig } from './schema.ts'

/** Faults that one value alone does not show: names that stand for nothing. Each with the path where it stands. */
export function crossCheck(
  config: Config,
): { path: PropertyKey[]; text: string; word: string; known: string[] }[] {
  const stores = Object.keys(config.stores)
  const places: { path: PropertyKey[]; to: ToConfig[] }[] = [
    { path: ['defaults', 'to'], to: config.defaults.to ?? [] },
    ...Object.entries(config.jobs).map(([job, { to }]) => ({ path: ['jobs', job, 'to'], to: to ?? [] })),
  ]
  const unknown = places.flatMap(({ path, to }) =>
    to.flatMap((each, index) =>
      namesIn(each)
        .filter(store => !stores.includes(store))
        .map(store => ({
          path: [...path, index],
          text: `there is no store "${store}"`,
          known: stores,
          word: store,
        })),
    ),
  )
  const homeless = Object.entries(config.jobs)
    .filter(([, job]) => !job.to && !config.defaults.to)
    .map(([job]) => ({
      path: ['jobs', job],
      text: `job "${job}" says no store: add "to"`,
      known: [],
      word: '',
    }))
  return [
    ...unknown,
    ...homeless,
    ...sourceCount(config),
    ...formerNames(config),
    ...places.flatMap(({ path, to }) => faultsOfList(path, to)),
    ...sameFolders(config),
  ]
}

function sourceCount(config: Config) {
  return Object.entries(config.jobs)
    .filter(([, job]) => (job.source === undefined) === (job.sources === undefined))
    .map(([job, { source }]) => ({
      path: ['jobs', job],
      text: source
        ? `job "${job}" says both "source" and "sources"`
        : `job "${job}" says no source: add "source"`,
      word: '',
      known: [],
    }))
}

/** A former name that another job has would put that job's backups under this one's retention. */
function formerNames(config: Config) {
  const jobs = Object.entries(config.jobs)
  const holders = (name: string) =>
    jobs.filter(([job, { formerly }]) => job === name || formerly?.includes(name)).length
  return jobs.flatMap(([job, { formerly }]) =>
    (formerly ?? [])
      .filter(name => name === job || holders(name) > 1)
      .map(name => ({
        path: ['jobs', job, 'formerly'],
        text: `job "${job}" cannot have been "${name}": ${name === job ? 'that is its name' : 'another job is, or was'}`,
        word: '',
        known: [],
      })),
  )
}

/** Each store once, at least one fed directly, and whoever is fed later is fed by one of those. */
function faultsOfList(path: PropertyKey[], to: readonly ToConfig[]) {
  const entries = to.map(each => (typeof each === 'string' ? { store: each, after: undefined } : each))
  const direct = entries.filter(each => each.after === undefined).map(each => each.store)
  const fault = (text: string) => [{ path, text, word: '', known: [] }]
  const twice = entries.find((each, index) => entries.findIndex(other => other.store === each.store) < index)
  if (twice) return fault(`${path.join('.')}: store "${twice.store}" stands there twice`)
  const late = entries.find(each => each.after !== undefined && !direct.includes(each.after))
  if (late)
    return fault(
      `${path.join('.')}: "after: ${late.after}" must name a store of the same list that is fed directly`,
    )
  return []
}

/** Two names for one folder would be one copy that counts as two. */
function sameFolders(config: Config) {
  const folders = Object.entries(config.stores).flatMap(([store, options]) =>
    options.type === 'local' ? [{ store, path: resolve(options.path) }] : [],
  )
  return folders.flatMap(({ store, path }, index) => {
    const twin = folders.slice(0, index).find(other => other.path === path)
    return twin
      ? [
          {
            path: ['stores', store],
            text: `stores ${twin.store} and ${store} are the same folder`,
            word: '',
            known: [],
          },
        ]
      : []
  })
}

function namesIn(to: ToConfig): string[] {
  if (typeof to === 'string') return [to]
  return to.after === undefined ? [to.store] : [to.store, to.after]
}
