import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { keyPattern } from './key-pattern.ts'

const at = new Date('2026-03-09T05:07:08.009Z')
const utc = { zone: 'UTC', plain: false }
const plain = { zone: 'UTC', plain: true }

test('a pattern writes the name of the unit and the time of its zone', () => {
  assert.equal(
    keyPattern('${DB}_%Y-%m-%dT%H:%M:%S.%LZ.sql', utc).key('shop', at),
    'shop_2026-03-09T05:07:08.009Z.sql',
  )
  const berlin = keyPattern('app/app-%F-%H%M%S.tar', { zone: 'Europe/Berlin', plain: false })
  assert.equal(berlin.key('x', at), 'app/app-2026-03-09-060708.tar')
  assert.equal(
    keyPattern('%y %j %b %B %a %A %e %I %p %s %u %w %z %Z %% %T %R %D', utc).key('x', at),
    '26 068 Mar March Mon Monday  9 05 AM 1773032828 1 1 +0000 UTC % 05:07:08 05:07 03/09/26',
  )
  assert.equal(keyPattern('$DB.sql', utc).key('50%Y', at), '50%Y.sql')
  assert.equal(keyPattern('$DBX', utc).key('a', at), '$DBX')
})

test('a plain pattern has one "-" for every run of other characters, and none at its ends', () => {
  assert.equal(keyPattern('%Y/%m/${DB} -- %Y', plain).key('ä b', at), '2026/03/-b-2026')
  assert.equal(keyPattern('-${DB}-', plain).key('shop', at), 'shop')
  assert.equal(
    keyPattern('${DB}-%Y-%m-%dT%H-%M-%SZ.sql', plain).key('shop', at),
    'shop-2026-03-09T05-07-08Z.sql',
  )
})

test('a key is recognised, with what the stages added, and says unit and time', () => {
  const moonflower = keyPattern('${DB}_%Y-%m-%dT%H:%M:%S.%LZ', utc)
  for (const suffix of ['.sql', '.sql.gz', '.sql.gpg', '.sql.gz.gpg'])
    assert.deepEqual(moonflower.match(`my_db_2026-03-09T05:07:08.009Z${suffix}`), { unit: 'my_db', at })
  assert.equal(moonflower.match('my_db_2026-03-09.sql.gz'), null)
  assert.equal(moonflower.match('my_db_2026-03-09T05:07:08.009Z.sql.gz.tmp'), null)
  const rclone = keyPattern('%Y/%m/${DB}-%Y-%m-%dT%H-%M-%SZ', plain)
  const second = new Date('2026-03-09T05:07:08Z')
  const key = '2026/03/shop-2026-03-09T05-07-08Z'
  for (const suffix of ['.sql.gz', '.sql.gz.age', '.sql.gz.sql.gz'])
    assert.deepEqual(rclone.match(key + suffix), { unit: 'shop', at: second })
  assert.deepEqual(keyPattern('all.sql', utc).match('all.sql.gz'), { unit: null, at: null })
})

test('a "-" of a plain pattern is missing only where a neighbour has swallowed it', () => {
  const usual = keyPattern('${DB}-%Y-%m-%dT%H-%M-%SZ.sql', plain)
  assert.equal(usual.match('all_2026-03-09T05-07-08Z.sql.gz'), null)
  assert.equal(usual.match('shop-20260309T050708Z.sql.gz'), null)
  const second = new Date('2026-03-09T05:07:08Z')
  for (const text of [
    '-a %% ${DB} - %Y-%m-%dT%H-%M-%SZ - ',
    '${DB} -%e-%m-%Y %H:%M:%S',
    '%Y%m%d%H%M%S-${DB}',
  ])
    for (const unit of ['shop', '!shop', 'shop!', '!', 'my-shop_1']) {
      const pattern = keyPattern(text, plain)
      const key = pattern.key(unit, second)
      assert.deepEqual(pattern.match(`${key}.gz`)?.at, second, key)
    }
})

test('whatever a pattern wrote it recognises', () => {
  const patterns = [
    '${DB}-%s',
    '%F/${DB}%T',
    '%y%j-%H%M%S ${DB}',
    '%b %e %Y %I%p %M %S-${DB}',
    '${DB} %d %B %Y %H:%M:%S',
  ]
  for (const zone of ['UTC', 'America/New_York', 'Asia/Kolkata']) {
    for (const text of patterns) {
      const pattern = keyPattern(text, { zone, plain: false })
      const whole = new Date('2026-03-09T05:07:08Z')
      assert.deepEqual(
        pattern.match(`${pattern.key('a b', whole)}.gz`),
        { unit: 'a b', at: whole },
        `${text} ${zone}`,
      )
      assert.ok(pattern.isUnique, text)
    }
  }
})

test('a pattern without the second may give one key twice', () => {
  for (const text of ['${DB}.sql', '${DB}-%Y-%m-%d', '${DB}-%H-%M-%S', '%Y-%m-%d %I:%M:%S'])
    assert.equal(keyPattern(text, utc).isUnique, false, text)
  assert.equal(keyPattern('all-%F', utc).namesUnit, false)
})

test('what every key begins with is known', () => {
  assert.equal(keyPattern('a/b-c/${DB}', utc).prefix, 'a/b-c/')
  assert.equal(keyPattern('a b/x${DB}', plain).prefix, 'a-b/')
  assert.equal(keyPattern('${DB}/a', utc).prefix, '')
  assert.equal(keyPattern('-x/${DB}', plain).prefix, 'x/')
})

test('directives stand for what they do in GNU date, at the turns of many years', () => {
  const text =
    '%Y %y %C %m %d %e %H %I %k %l %M %S %p %P %j %b %B %a %A %u %w %G %g %V %U %W %F %T %R %D %h %c %x %X %r %s %% %-d %-m %-H %-j %-I'
  const pattern = keyPattern(text, { zone: 'Asia/Kolkata', plain: false })
  const moments = Array.from({ length: 28 * 9 }, (_, n) =>
    Math.floor(Date.UTC(1999 + Math.floor(n / 9), 11, 27 + (n % 9), n % 24, n % 60, 7) / 1000),
  )
  const input = moments.map(moment => `@${moment}`).join('\n')
  const env = { ...process.env, TZ: 'Asia/Kolkata', LC_ALL: 'C' }
  const written = execFileSync('date', ['--file=-', `+${text}`], { input, env, encoding: 'utf8' })
  assert.deepEqual(
    moments.map(moment => pattern.key('', new Date(moment * 1000))),
    written.trimEnd().split('\n'),
  )
  for (const moment of moments)
    assert.ok(pattern.match(`${pattern.key('', new Date(moment * 1000))}.gz`), String(moment))
})

test('a directive that is not known is an error that lists the others', () => {
  assert.throws(() => keyPattern('%Q', utc), /%Q is none of .*%Y %y %m/)
  assert.throws(() => keyPattern('%_d', utc), /%_d is none/)
})
