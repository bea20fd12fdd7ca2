import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { nextRun, offsetAt } from '../model/schedule.ts'
import { parseZoneFile } from './tzif.ts'
import { localZone } from './zone.ts'

const folder = mkdtempSync(join(tmpdir(), 'cairn-zone-'))
process.on('exit', () => rmSync(folder, { recursive: true }))

/** A zone file without any change listed, as slim ones are: what holds is the rule at its end. */
function zoneFile(rule: string, offset = 0): Buffer {
  const header = (version: string, types: number, chars: number): Buffer => {
    const bytes = Buffer.alloc(44)
    bytes.write(`TZif${version}`, 'latin1')
    bytes.writeUInt32BE(types, 36)
    bytes.writeUInt32BE(chars, 40)
    return bytes
  }
  const type = Buffer.alloc(6)
  type.writeInt32BE(offset)
  const body = Buffer.concat([type, Buffer.from('LMT\0')])
  return Buffer.concat([header('2', 1, 4), body, header('2', 1, 4), body, Buffer.from(`\n${rule}\n`)])
}

function written(name: string, bytes: Buffer): string {
  const path = join(folder, name)
  writeFileSync(path, bytes)
  return path
}

/** Whether a zone shows what another one shows, for the years around. */
function showsTheSame(one: string, other: string): void {
  for (let day = -300; day < 600; day++) {
    const moment = new Date(Date.now() + day * 24 * 3_600_000)
    assert.equal(offsetAt(moment, one), offsetAt(moment, other), `${one} ${other} ${moment.toISOString()}`)
  }
}

test('rules of summer time are read: north, south, by weeks and by days of the year', () => {
  const at = (rule: string, date: string): number =>
    parseZoneFile(zoneFile(rule)).offsetAt(new Date(date).getTime() / 1000) / 3600
  assert.equal(at('CET-1CEST,M3.5.0,M10.5.0/3', '2026-03-29T00:59:59Z'), 1)
  assert.equal(at('CET-1CEST,M3.5.0,M10.5.0/3', '2026-03-29T01:00:00Z'), 2)
  assert.equal(at('CET-1CEST,M3.5.0,M10.5.0/3', '2026-10-25T00:59:59Z'), 2)
  assert.equal(at('CET-1CEST,M3.5.0,M10.5.0/3', '2026-10-25T01:00:00Z'), 1)
  assert.equal(at('NZST-12NZDT,M9.5.0,M4.1.0/3', '2026-01-15T00:00:00Z'), 13)
  assert.equal(at('NZST-12NZDT,M9.5.0,M4.1.0/3', '2026-07-15T00:00:00Z'), 12)
  assert.equal(at('EST5EDT,M3.2.0,M11.1.0', '2026-03-08T07:00:00Z'), -4)
  assert.equal(at('EST5EDT,M3.2.0,M11.1.0', '2026-11-01T06:00:00Z'), -5)
  assert.equal(at('<+0530>-5:30', '2026-07-15T00:00:00Z'), 5.5)
  assert.equal(at('AAA0BBB,J60,300', '2028-02-29T23:00:00Z'), 0)
  assert.equal(at('AAA0BBB,J60,300', '2028-03-01T02:00:00Z'), 1)
})

test('what /etc/localtime holds counts, not the name of what it points to', () => {
  const berlin = written('UTC', zoneFile('CET-1CEST,M3.5.0,M10.5.0/3', 3600))
  const link = join(folder, 'localtime')
  symlinkSync(berlin, link)
  const zone = localZone({}, link)
  showsTheSame(zone, 'Europe/Berlin')
  assert.equal(
    nextRun('30 2 * * *', zone, new Date('2026-11-21T12:00:00Z')).toISOString(),
    '2026-11-22T01:30:00.000Z',
  )
  showsTheSame(
    localZone({}, written('ny', zoneFile('EST5EDT,M3.2.0,M11.1.0', -5 * 3600))),
    'America/New_York',
  )
})

test('TZ wins, and one that names no zone is refused', () => {
  const file = written('other', zoneFile('JST-9', 9 * 3600))
  assert.equal(localZone({ TZ: 'Europe/Paris' }, file), 'Europe/Paris')
  assert.equal(localZone({ TZ: ':/usr/share/zoneinfo/Europe/Paris' }, file), 'Europe/Paris')
  showsTheSame(localZone({ TZ: '' }, file), 'Asia/Tokyo')
  showsTheSame(localZone({ TZ: `:${file}` }, file), 'Asia/Tokyo')
  showsTheSame(localZone({ TZ: 'CET-1CEST,M3.5.0,M10.5.0/3' }, file), 'Europe/Berlin')
  showsTheSame(localZone({ TZ: 'CST6CDT5' }, file), 'America/Chicago')
  showsTheSame(localZone({ TZ: '<+03>-3' }, file), 'Etc/GMT-3')
  assert.throws(() => localZone({ TZ: 'Berlin' }, file), /TZ=Berlin is not a time zone/)
})

test('without a file, or with one that is none, it is UTC', () => {
  assert.equal(localZone({}, join(folder, 'not-there')), 'UTC')
  assert.equal(localZone({}, written('text', Buffer.from('Europe/Berlin\n'))), 'UTC')
  assert.equal(localZone({}, written('cut', zoneFile('CET-1', 3600).subarray(0, 60))), 'UTC')
})
