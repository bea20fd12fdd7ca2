import type { CompletedPart } from '@aws-sdk/client-s3'
import type { Context } from '../../model/context.ts'
import { Failure } from '../../model/failure.ts'
import { showBytes } from '../../model/quantity.ts'
import type { Bytes } from '../../model/step.ts'
import { address, creating, type Upload, type Uploaded } from './create.ts'
import { troubleOf } from './error.ts'
import { Lanes } from './lanes.ts'
import { inParts, maxObjectBytes, maxParts, type Part, type Parts, partBytes } from './part.ts'

/**
 * Sends a stream as one object: in one PutObject when it fits into the first part, else as a multipart upload.
 *
 * Parts are gathered in memory as far as `ctx.budget` goes, else in files of `ctx.spool`. Needs the right to put
 * and nothing else. On failure the upload is aborted; where that fails too, a warning says what is left. Throws
 * AlreadyExists, what the stream threw, the signal's reason, or what the SDK threw.
 */
export async function upload(body: Bytes, to: Upload, ctx: Context): Promise<Uploaded> {
  const lanes = new Lanes(ctx.signal)
  const inner = { ...ctx, signal: lanes.signal }
  const parts = inParts(body, to.digests, inner)
  try {
    await using first = await nextPart(0, parts, lanes, to, inner)
    if (first.last) return await putWhole(first, to, inner)
    return await putParts(first, parts, lanes, to, inner)
  } finally {
    await parts.stop()
  }
}

/** Sends a part that is all there is. */
export async function putWhole(part: Part, to: Upload, ctx: Context): Promise<Uploaded> {
  const version = await creating(to, ctx, {}, (s3, options, condition) =>
    sending(part, body =>
      s3.putObject(
        { ...address(to), ...to.create, ...part.digest, ...condition, Body: body, ContentLength: part.bytes },
        options,
      ),
    ),
  )
  return { bytes: part.bytes, version, multipart: false }
}

async function putParts(
  first: Part,
  parts: Parts,
  lanes: Lanes,
  to: Upload,
  ctx: Context,
): Promise<Uploaded> {
  const id = await begin(to, ctx)
  try {
    const done = await sendAll(first, id, parts, lanes, to, ctx)
    // It may take minutes to join thousands of parts, without a sign.
    const version = await creating(to, ctx, { silenceMs: ctx.stallMs }, (s3, options, condition) => {
      const MultipartUpload = { Parts: done.parts }
      return s3.completeMultipartUpload(
        { ...address(to), UploadId: id, MultipartUpload, ...condition },
        options,
      )
    })
    return { bytes: done.bytes, version, multipart: true }
  } catch (error) {
    await lanes.cancel(error)
    await abandon(id, to, ctx)
    throw error
  }
}

async function begin(to: Upload, ctx: Context): Promise<string> {
  const checksum = to.digests.inMemory === 'crc32' ? { ChecksumAlgorithm: 'CRC32' as const } : {}
  const { UploadId } = await to.connection.ask(
    (s3, options) => s3.createMultipartUpload({ ...address(to), ...to.create, ...checksum }, options),
    ctx,
  )
  if (UploadId) return UploadId
  throw new Failure({ what: `cannot write ${to.key}`, why: 'the server gave no id for the upload' })
}

async function sendAll(first: Part, id: string, parts: Parts, lanes: Lanes, to: Upload, ctx: Context) {
  const done: CompletedPart[] = []
  let bytes = 0
  for (let n = 0, part = first; ; part = await nextPart(++n, parts, lanes, to, ctx)) {
    bytes += part.bytes
    const number = n + 1
    await lanes.start(part, async () => {
      done[number - 1] = await sendPart(part, number, id, to, ctx)
    })
    if (part.last) break
    if (number === maxParts || bytes >= maxObjectBytes) throw tooLarge(to, bytes)
  }
  await lanes.all()
  return { parts: done, bytes }
}

async function sendPart(
  part: Part,
  number: number,
  id: string,
  to: Upload,
  ctx: Context,
): Promise<CompletedPart> {
  const input = {
    ...address(to),
    UploadId: id,
    PartNumber: number,
    ContentLength: part.bytes,
    ...part.digest,
  }
  const { ETag, ChecksumCRC32 } = await to.connection.ask(
    (s3, options) => sending(part, body => s3.uploadPart({ ...input, Body: body }, options)),
    ctx,
  )
  return { ETag, PartNumber: number, ...(ChecksumCRC32 && { ChecksumCRC32 }) }
}

/** Waits for parts under way to give their memory back rather than to gather this one in a file. */
async function nextPart(n: number, parts: Parts, lanes: Lanes, to: Upload, ctx: Context): Promise<Part> {
  const { fixedPartBytes: fixed, sizeHint } = to
  const bytes = partBytes(n, { ...(fixed && { fixed }), ...(sizeHint && { sizeHint }) })
  let claim = ctx.budget.claim(bytes, 0)
  while (claim.bytes < bytes && lanes.holdMemory()) {
    claim[Symbol.dispose]()
    await lanes.one()
    claim = ctx.budget.claim(bytes, 0)
  }
  const next = parts.next(bytes, claim)
  try {
    return await lanes.orFail(next)
  } catch (error) {
    next.then(part => part[Symbol.asyncDispose]()).catch(() => {})
    throw error
  }
}

/** Best effort, within ten seconds: whoever aborted is waiting. */
async function abandon(id: string, to: Upload, ctx: Context): Promise<void> {
  try {
    await to.connection.ask(
      (s3, options) => s3.abortMultipartUpload({ ...address(to), UploadId: id }, options),
      { ...ctx, signal: AbortSignal.timeout(10_000) },
    )
  } catch (error) {
    const { code, message } = troubleOf(error)
    if (code === 'NoSuchUpload') return
    ctx.emit({
      type: 'warning',
      what: `parts of an unfinished upload of ${to.key} stay in ${to.connection.where}`,
      why: `the server did not abort it: ${[code, message].filter(Boolean).join(', ')}`,
      remedy:
        'permit s3:AbortMultipartUpload, or let a lifecycle rule abort incomplete uploads after some days',
      store: to.store,
    })
  }
}

/** A stream that breaks while it is sent would otherwise leave the request waiting for ever. */
async function sending<T>(part: Part, send: (body: ReturnType<Part['body']>) => Promise<T>): Promise<T> {
  const body = part.body()
  if (Buffer.isBuffer(body)) return send(body)
  const broken = new Promise<never>((_resolve, reject) => body.once('error', reject))
  try {
    return await Promise.race([send(body), broken])
  } finally {
    body.destroy()
  }
}

function tooLarge(to: Upload, bytes: number): Failure {
  return new Failure({
    what: `cannot write ${to.key}`,
    why: `${showBytes(bytes)} and more do not fit into one object of ${to.connection.where}`,
    remedy: to.fixedPartBytes ? 'raise `partSize`, or leave it out' : 'split the source',
  })
}
