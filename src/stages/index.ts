/** Every stage there is. To add one: its file, a line in choose.ts, its contract test (CONTRIBUTING.md). */

export { generateIdentity } from './age.ts'
export { Compression, Encryption, type Reading, readingStages, writingStages } from './choose.ts'
export { gzipStage } from './gzip.ts'
