import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '../../model/failure.ts'
import { judged } from './explain.ts'

/** What PostgreSQL's programs said in trials, and what a person should do about it. */
const cases: readonly (readonly [string, string, RegExp])[] = [
  [
    'a standby that followed its primary',
    'ERROR:  canceling statement due to conflict with recovery\nDETAIL:  User query might have needed to see row versions that must be removed.\nCommand was: COPY public.big (g, x) TO stdout;',
    /hot_standby_feedback/,
  ],
  [
    'a value of 600 MB',
    'ERROR:  invalid memory alloc request size 1200000003\nCommand was: COPY public.b (id, v) TO stdout;',
    /1 GB as text.*--exclude-table-data/,
  ],
  [
    'a table that was dropped in between',
    'pg_dump: error: query failed: ERROR:  relation "public.n8" does not exist\npg_dump: detail: Query was: LOCK TABLE public.n8 IN ACCESS SHARE MODE',
    /dropped while the dump began/,
  ],
  [
    'too many tables',
    'pg_dump: error: query failed: ERROR:  out of shared memory\nHINT:  You might need to increase max_locks_per_transaction.\npg_dump: detail: Query was: LOCK TABLE public.n8 IN ACCESS SHARE MODE',
    /raise max_locks_per_transaction/,
  ],
  [
    'a server that was killed',
    'pg_dump: error: PQgetResult() failed.\nError message from server: server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally',
    /log of the server/,
  ],
  [
    'a server that was stopped',
    'FATAL:  terminating connection due to administrator command',
    /log of the server/,
  ],
]

for (const [what, said, remedy] of cases)
  test(`it is told what to do about ${what}`, () => {
    const verdict = judged('pg_dump')({ code: 1, signal: null }, said)
    assert.ok(verdict instanceof Failure)
    assert.match(verdict.remedy, remedy)
  })
