import { run } from './cli/index.ts'

process.exitCode = await run(process.argv.slice(2))
// Nothing that is still open (a kept-alive connection, a timer) may hold the process up: all work is done.
process.exit()
