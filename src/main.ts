import { enableCompileCache } from 'node:module'

// Type stripping and parsing cost more than starting Node.js does; the cache makes `--help` quick. It may be absent.
enableCompileCache()

const { run } = await import('./cli/index.ts')
process.exitCode = await run(process.argv.slice(2))
// Nothing that is still open (a kept-alive connection, a timer) may hold the process up: all work is done.
process.exit()
