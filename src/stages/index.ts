/** Every stage there is. To add one: its file, a line here, its contract test (CONTRIBUTING.md). */
export { AgeOptions, ageStage, generateIdentity } from './age.ts'
export { ZstdOptions, zstdStage } from './zstd.ts'
