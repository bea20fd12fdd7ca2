import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '../../model/failure.ts'
import { Forbidden, Transient } from '../../model/store.ts'
import { asRcloneFailure, RcloneError } from './failure.ts'

test('a connection that breaks may pass, whatever the object is called', () => {
  const kindOf = (message: string): unknown =>
    (asRcloneFailure(new RcloneError(message), 'cannot write', true) as Failure).constructor
  assert.equal(kindOf('Put "https://dav/app/403/1": read: connection reset by peer'), Transient)
  assert.equal(kindOf('Put "https://dav/forbidden/1": 503 Service Unavailable'), Transient)
  assert.equal(kindOf('operation error S3: PutObject, StatusCode: 403, AccessDenied'), Forbidden)
  assert.equal(kindOf('StatusCode: 403, SignatureDoesNotMatch'), Failure)
})
