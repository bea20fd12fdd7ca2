import { endProcess } from './cli/end.ts'
import { holdHangUps } from './cli/hang-up.ts'

const args = process.argv.slice(2)
// Before anything else is loaded: whoever starts `serve` may want its configuration read again at once.
if (args.includes('serve') || args.includes('run')) holdHangUps()
const { run } = await import('./cli/index.ts')

const code = await run(args)
// Nothing that is still open (a kept-alive connection, a timer) may hold the process up: all work is done.
endProcess(code)
