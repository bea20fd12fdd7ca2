/** Every stage there is. To add one: its file, a line in choose.ts and options.ts, its contract test (CONTRIBUTING.md). */

export { generateIdentity } from './age.ts'
export { type Reading, readingStages, writingStages } from './choose.ts'
export { gzipStage } from './gzip.ts'
export { Compression, Encryption } from './options.ts'
