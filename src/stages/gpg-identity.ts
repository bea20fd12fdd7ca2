import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Context } from '../model/context.ts'
import { wrongKey } from '../model/failure.ts'
import type { Secret } from '../model/secret.ts'
import type { Bytes, Exit, Program, Verdict } from '../model/step.ts'
import { flow } from '../platform/flow.ts'
import { groupGone } from '../platform/process-group.ts'
import { describeExit } from '../platform/program.ts'
import { cleanupContext } from '../platform/run-context.ts'

/** A secret key, and what opens it. */
export interface GpgIdentity {
  readonly key: Secret
  readonly passphrase: Secret | null
}

/** A Unix socket's name is at most 107 bytes, and the longest that the agent makes is this much longer than its folder's. */
const socketBytes = 107 - '/S.gpg-agent.browser'.length
const endMs = 5_000

/**
 * gpg with these secret keys, in a key ring of its own: what `work` gives with the programs that it makes of arguments.
 * With each identity in turn, until one opens it, would mean to read the bytes again: so all of them are in the ring,
 * and the first passphrase there is must open those that have one.
 *
 * gpg opens secret keys by its agent only. The agent is the parent that gpg takes the place of, so it ends by
 * itself when gpg is gone, some seconds later even when we are killed; here it is ended at once, and the ring removed.
 */
export async function* withAgent(
  identities: readonly GpgIdentity[],
  ctx: Context,
  work: (gpg: (args: readonly string[]) => Program, secretFds: readonly Secret[]) => Bytes,
): AsyncGenerator<Uint8Array, void, undefined> {
  const parent = ctx.dir.length + '/gpg-123456'.length > socketBytes ? tmpdir() : ctx.dir
  const home = await mkdtemp(join(parent, 'gpg-'))
  const passphrase = identities.find(identity => identity.passphrase)?.passphrase
  const gpg = (args: readonly string[]): Program => agentAndGpg(home, args, passphrase !== undefined)
  try {
    for (const { key } of identities) {
      await drain(
        flow(
          { ...agentAndGpg(home, ['--import', '/dev/fd/3'], false), secretFds: [key], judge: judgeImport },
          [],
          ctx,
        ),
      )
      await endAgent(home, ctx)
    }
    yield* work(gpg, passphrase ? [passphrase] : [])
  } finally {
    await endAgent(home, ctx)
    await rm(home, { recursive: true, force: true, maxRetries: 3 })
  }
}

function agentAndGpg(home: string, args: readonly string[], asks: boolean): Program {
  const agent = ['--no-options', '--homedir', home, '--log-file', logIn(home), '--daemon', '--']
  const own = ['--no-options', '--homedir', home, '--batch', '--no-tty', '--quiet', '--no-autostart']
  const keep = ['--no-random-seed-file', '--trust-model', 'always', '--pinentry-mode', 'loopback']
  const secret = asks ? ['--passphrase-fd', '3'] : []
  return { program: 'gpg-agent', args: [...agent, 'gpg', ...own, ...keep, ...secret, ...args] }
}

function judgeImport(exit: Exit, stderrTail: string): Verdict {
  if (exit.code === 0) return null
  return wrongKey(
    'cannot use the secret key',
    describeExit(exit, stderrTail),
    'gpg --armor --export-secret-keys',
  )
}

function logIn(home: string): string {
  return join(home, 'agent.log')
}

/** Resolves when no agent of this ring runs any more. It has told its process id in its log. */
async function endAgent(home: string, ctx: Context): Promise<void> {
  const log = await readFile(logIn(home), 'utf8').catch(() => '')
  const pids = new Set([...log.matchAll(/gpg-agent\[(\d+)\]/g)].map(([, pid]) => Number(pid)))
  if (pids.size === 0) return
  const kill: Program = {
    program: 'gpgconf',
    args: ['--homedir', home, '--kill', 'gpg-agent'],
    judge: () => null,
  }
  await drain(flow(kill, [], cleanupContext(ctx, endMs)))
  // It leads a process group of its own.
  for (const pid of pids) await groupGone(pid, performance.now() + endMs)
}

async function drain(bytes: Bytes): Promise<void> {
  for await (const _ of bytes);
}

/** Whether an OpenPGP message is for a passphrase: its first packet is an encrypted session key of that kind. */
export function isForPassphrase(head: Buffer): boolean {
  const [first = 0] = head[0] === 0x2d ? dearmored(head) : head
  const tag = (first & 0x40) === 0 ? (first >> 2) & 0x0f : first & 0x3f
  return tag === 3
}

/** The first bytes inside an armor: base64 after its headers and an empty line. */
function dearmored(head: Buffer): Buffer {
  return Buffer.from(head.toString('latin1').split(/\r?\n\r?\n/)[1] ?? '', 'base64')
}
