import assert from 'node:assert/strict'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { testContext } from '../../../test/support/context.ts'
import { webhookServer } from '../../../test/support/webhook-server.ts'
import { Failure } from '../../model/failure.ts'
import type { Moment } from '../../model/notifier.ts'
import { webhookOptions, webhooks } from './index.ts'

const quick = { timeoutMs: 20_000, pausesMs: [10, 10, 10] }
/** For those who wait for an answer that does not come; who gets one must not be hurried. */
const hasty = { timeoutMs: 2_000, pausesMs: [10] }
const moments: Moment[] = ['start', 'success', 'failure', 'alarm', 'over']
const log = 'one\ntwo & <three>\nvier ü'

async function tell(
  options: object,
  moment: Moment,
  text = log,
  ctx = testContext(),
  patience = quick,
): Promise<void> {
  await webhooks(webhookOptions.parse(options), patience).tell({ moment, message: 'a line', log: text }, ctx)
}

async function failing(work: Promise<void>): Promise<Failure> {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  )
  assert.ok(error instanceof Failure, String(error))
  return error
}

test('each moment calls its own URL by POST; without one of its own, the alarm that of failure, its end that of success', async () => {
  await using server = await webhookServer()
  const url = (word: string): string => `${server.origin}/token/${word}?x=1`
  for (const moment of moments) await tell({ success: url('s'), failure: url('f') }, moment)
  assert.deepEqual(
    server.calls.map(({ method, path }) => `${method} ${path}`),
    ['POST /token/s?x=1', 'POST /token/f?x=1', 'POST /token/f?x=1', 'POST /token/s?x=1'],
  )
  for (const moment of moments)
    await tell({ start: url('start'), alarm: url('alarm'), over: url('over') }, moment)
  assert.deepEqual(
    server.calls.slice(4).map(({ path }) => path),
    ['/token/start?x=1', '/token/alarm?x=1', '/token/over?x=1'],
  )
})

test('the URL of a check of healthchecks.io gives all of them', async () => {
  await using server = await webhookServer()
  for (const moment of moments) await tell({ healthchecks: `${server.origin}/ping/abc/` }, moment)
  assert.deepEqual(
    server.calls.map(({ path }) => path),
    ['/ping/abc/start', '/ping/abc', '/ping/abc/fail', '/ping/abc/fail', '/ping/abc'],
  )
})

test('the body is a line, or the log, as text or as curl -d sends it', async () => {
  await using server = await webhookServer()
  const healthchecks = `${server.origin}/x`
  for (const log of [false, true]) await tell({ healthchecks, log }, 'success')
  await tell({ healthchecks, log: true, as: 'form' }, 'failure')
  await tell({ healthchecks, log: true }, 'start')
  assert.deepEqual(
    server.calls.map(({ body, type }) => [body, type]),
    [
      ['a line', 'text/plain; charset=utf-8'],
      [log, 'text/plain; charset=utf-8'],
      [log, 'application/x-www-form-urlencoded'],
      ['', undefined],
    ],
  )
})

test('of a long log the end is sent, whole lines of it', async () => {
  await using server = await webhookServer()
  const long = Array.from({ length: 20_000 }, (_, line) => `line ${line} ü`).join('\n')
  await tell({ healthchecks: `${server.origin}/x`, log: true }, 'failure', long)
  const { body } = server.calls[0] ?? { body: '' }
  assert.ok(Buffer.byteLength(body) <= 100_000)
  assert.match(body, /^\[the beginning is left out\]\nline \d+ ü\n/)
  assert.ok(body.endsWith('line 19999 ü'))
})

test('what fails for a moment is tried again, as often as there are pauses: errors of the server, a cut connection, silence', async () => {
  for (const broken of ['500', '429', 'cut', 'silent'] as const) {
    const patience = broken === 'silent' ? hasty : quick
    const tries = patience.pausesMs.length + 1
    let good = tries - 1
    await using server = await webhookServer((_call, response, request) => {
      if (good-- === 0) return void response.end()
      if (broken === 'cut') request.socket.destroy()
      else if (broken !== 'silent') response.writeHead(Number(broken)).end()
    })
    const call = (place: string): Promise<void> =>
      tell({ success: `${server.origin}/${place}` }, 'success', log, testContext(), patience)
    await call('x')
    assert.equal(server.calls.length, tries, broken)
    good = 100
    const failure = await failing(call('token'))
    assert.equal(server.calls.length, 2 * tries, broken)
    assert.match(
      failure.why,
      /^(the answer was HTTP (500|429)|the connection was cut|no answer within 2 s), /,
    )
    assert.ok(failure.why.endsWith(`, tried ${tries} times`), failure.why)
    assert.match(failure.what, new RegExp(`^the success webhook was not delivered \\(${server.origin}\\)$`))
  }
})

test('a refusal and a redirect are told at once, with no more of the URL than its origin', async () => {
  await using other = await webhookServer()
  await using server = await webhookServer(({ path }, response) => {
    if (path.endsWith('gone')) response.writeHead(404).end()
    else response.writeHead(302, { location: `${other.origin}/secret` }).end()
  })
  const gone = await failing(tell({ failure: `${server.origin}/token/gone` }, 'failure'))
  assert.equal(gone.why, 'the answer was HTTP 404')
  const moved = await failing(tell({ failure: `${server.origin}/token/moved` }, 'failure'))
  assert.equal(moved.why, `it redirects to ${other.origin} (HTTP 302)`)
  assert.deepEqual([server.calls.length, other.calls.length], [2, 0])
  assert.doesNotMatch(`${gone.message}${gone.remedy}${moved.message}${moved.remedy}`, /token|secret/)
})

test('nobody there, or no URL, is a failure that shows no secret', async () => {
  const nobody = await failing(tell({ success: 'http://127.0.0.1:9/hunter2' }, 'success'))
  assert.match(nobody.message, /ECONNREFUSED/)
  const wrong = await failing(tell({ success: 'hunter2' }, 'success'))
  assert.match(wrong.message, /is not a URL/)
  const file = await failing(tell({ success: 'file:///etc/hunter2' }, 'success'))
  const unset = await failing(tell({ success: { env: 'CAIRN_NO_SUCH_VARIABLE' } }, 'success'))
  assert.match(unset.message, /CAIRN_NO_SUCH_VARIABLE/)
  for (const { message, remedy } of [nobody, wrong, file]) assert.doesNotMatch(message + remedy, /hunter2/)
})

test('when it is stopped it does not try on', async () => {
  await using server = await webhookServer(() => {})
  const controller = new AbortController()
  const began = performance.now()
  const telling = failing(
    tell({ success: `${server.origin}/x` }, 'success', '', testContext({ signal: controller.signal })),
  )
  await server.called('x')
  controller.abort(new Error('stop'))
  await telling
  assert.equal(server.calls.length, 1)
  assert.ok(performance.now() - began < 15_000)
})

test('HTTP_PROXY is asked to forward, unless NO_PROXY names the host', async () => {
  await using proxy = await webhookServer()
  await using server = await webhookServer()
  const before = { ...process.env }
  try {
    process.env.HTTP_PROXY = proxy.origin
    await tell({ success: 'http://hooks.example/x' }, 'success')
    assert.equal(proxy.calls[0]?.path, 'http://hooks.example/x')
    process.env.NO_PROXY = '127.0.0.1'
    await tell({ success: `${server.origin}/y` }, 'success')
    assert.deepEqual([proxy.calls.length, server.calls.length], [1, 1])
  } finally {
    process.env = before
  }
})

test('looking whether they can be reached sends nothing, and shows nothing but the host', async () => {
  let connections = 0
  let bytes = 0
  const server = createServer(socket => {
    connections++
    socket.on('data', chunk => {
      bytes += chunk.length
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const check = (options: object) => webhooks(webhookOptions.parse(options), quick).check(testContext())
  const good = await check({ healthchecks: `${origin}/hush/1`, failure: `${origin}/hush/2` })
  assert.deepEqual(good, [{ place: origin, found: `${new URL(origin).host} answers`, fault: null }])
  await new Promise(resolve => server.close(resolve))
  assert.deepEqual([connections, bytes], [1, 0])
  const away = await check({ success: `${origin}/hush`, failure: 'https://hush:hush@nowhere.invalid/hush' })
  assert.deepEqual(
    away.map(({ place, fault }) => [place, fault?.exit]),
    [
      [origin, 1],
      ['https://nowhere.invalid', 1],
    ],
  )
  assert.match(away[0]?.found ?? '', /refuses the connection/)
  assert.match(away[1]?.found ?? '', /no address is known for nowhere\.invalid/)
  assert.doesNotMatch(JSON.stringify(away), /hush/)
  const wrong = await failing(check({ start: 'hush.example/hush' }).then(() => {}))
  assert.match(wrong.message, /^the start webhook cannot be called: .*not a URL/)
  assert.doesNotMatch(wrong.message, /hush/)
})

test('where a proxy is on the way, it is the proxy that must answer', async () => {
  await using server = await webhookServer()
  const before = { ...process.env }
  const { host, port } = new URL(server.origin)
  Object.assign(process.env, { HTTPS_PROXY: server.origin, NO_PROXY: `.inside.invalid,127.0.0.1:1${port}` })
  try {
    const of = async (success: string) =>
      (await webhooks(webhookOptions.parse({ success }), quick).check(testContext())).map(
        ({ found }) => found,
      )
    assert.deepEqual(await of('https://hooks.invalid/x'), [`the proxy on the way, ${host}, answers`])
    assert.match((await of('https://hooks.inside.invalid/x')).join(), /no address is known/)
    assert.match((await of('http://hooks.invalid/x')).join(), /no address is known/)
    assert.equal(server.calls.length, 0)
  } finally {
    for (const name of ['HTTPS_PROXY', 'NO_PROXY']) {
      if (before[name] === undefined) delete process.env[name]
      else process.env[name] = before[name]
    }
  }
})
