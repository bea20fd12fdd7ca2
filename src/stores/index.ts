import type { Store } from '../model/store.ts'
import { LocalOptions, localStore } from './local/index.ts'
import { RcloneOptions, rcloneStore } from './rclone/index.ts'
import { retrying } from './retrying.ts'
import { S3Options, s3Store } from './s3/index.ts'

export { variable as remoteVariable } from './rclone/environment.ts'
export {
  isBroken as isBrokenRemote,
  isSecretName,
  parseRemote,
  withoutSecrets as remoteWithoutSecrets,
} from './rclone/remote.ts'

/** Every store there is. To add one: its file, a line here and in the schema, its contract test (CONTRIBUTING.md). */
export const storeOptions = { local: LocalOptions, s3: S3Options, rclone: RcloneOptions } as const

/** Local folders fail for good or not at all; what crosses a network is tried again. S3 tries its requests again itself. */
export const stores = {
  local: (name: string, options: LocalOptions): Store => localStore(name, options),
  s3: (name: string, options: S3Options): Store => retrying(s3Store(name, options), { attempts: 2 }),
  rclone: (name: string, options: RcloneOptions): Store => retrying(rcloneStore(name, options)),
} as const
