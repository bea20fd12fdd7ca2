import assert from 'node:assert/strict'
import { test } from 'node:test'
import { measure } from './measure.ts'
import { spread } from './spread.ts'

/** A program that uses so much processor time, however busy the machine is, and so much memory. */
const busy = (ms: number, bytes: number): string => {
  const script = `const b = Buffer.alloc(${bytes}, 1); while (process.cpuUsage().user < ${ms * 1000}) for (let n = 0; n < 1e6; n++); console.log(b.length)`
  return `${process.execPath} -e '${script}'`
}

test('a pipeline is measured with everything in it: its processor time and its memory', async () => {
  const measured = await measure({ pipeline: `${busy(300, 80e6)} | (${busy(300, 1)}; cat)` })
  assert.match(measured.stdout, /80000000/)
  assert.ok(measured.cpuSeconds > 0.55, `${measured.cpuSeconds} s of processor time`)
  assert.ok(measured.peakBytes > 80e6, `${measured.peakBytes} bytes`)
  assert.ok((measured.programs.node?.peakBytes ?? 0) > 80e6, JSON.stringify(measured.programs))
})

test('a program that fails anywhere in a pipeline fails the measurement', async () => {
  await assert.rejects(measure({ pipeline: 'false | cat' }), /ended with 1/)
})

test('a spread of measurements is their least, middle and most', () => {
  assert.deepEqual(spread([3, 1, 2]), { min: 1, median: 2, max: 3 })
  assert.deepEqual(spread([4, 1, 2, 3]), { min: 1, median: 2.5, max: 4 })
})
