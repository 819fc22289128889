import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { readWalPageHeader } from '../../src/domain/wal-page.ts'
import { SegmentPages } from '../../src/domain/wal-pages.ts'
import { realWal } from '../support/shipping.ts'

const page = 8192
const wal = await realWal(t, { segments: 24 })
const segments = await Promise.all(wal.names.map((name) => readFile(join(wal.directory, name))))

function isSound(bytes: Buffer, { piece = bytes.length, timeline = 1 } = {}): boolean {
  const header = readWalPageHeader(bytes)
  if (header === null) throw new Error('no segment')
  const pages = new SegmentPages(header, timeline)
  for (let at = 0; at < bytes.length; at += piece) pages.add(bytes.subarray(at, at + piece))
  return pages.isSound()
}

/** Pages until the zeros. */
const written = (bytes: Buffer) => {
  for (let at = 0; at < bytes.length; at += page) if (bytes.readUInt16LE(at) === 0) return at / page
  return bytes.length / page
}

t.test('what a server wrote, full or ended early', async (t) => {
  t.ok(
    segments.some((bytes) => written(bytes) < bytes.length / page),
    'some were ended early',
  )
  t.ok(
    segments.some((bytes) => written(bytes) === bytes.length / page),
    'some are full',
  )
  for (const bytes of segments) {
    t.ok(isSound(bytes))
    t.ok(isSound(bytes, { piece: page }), 'in whatever pieces')
    t.ok(isSound(bytes, { piece: page * 3, timeline: 2 }), 'a later timeline may begin in it')
  }
})

t.test('whatever is changed in a header of a page that has one', async (t) => {
  const bytes = Buffer.from(segments.find((one) => written(one) > 20) ?? [])
  for (let at = page; at < 20 * page; at += page) {
    // The length of what is left of a record, and what fills it up, is not looked at.
    for (const offset of [0, 1, 3, 4, 8, 9, 10, 12, 15]) {
      const before = bytes[at + offset] ?? 0
      bytes[at + offset] = before ^ 0x40
      if (isSound(bytes)) t.fail(`page ${at / page}, byte ${offset}`)
      bytes[at + offset] = before
    }
  }
  t.ok(isSound(bytes))
})

t.test('bytes that are lost from some page on, wherever', async (t) => {
  let seen = 0
  let missed = 0
  for (const whole of segments) {
    for (let from = 1; from < written(whole); from += 1) {
      const bytes = Buffer.from(whole)
      bytes.fill(0, from * page)
      if (isSound(bytes)) missed += 1
      else seen += 1
    }
  }
  // The rest of a record that is as short as that of a switch can be cannot be told from it.
  t.ok(seen > 200, `${seen} cuts were tried`)
  t.ok(missed <= seen / 20, `${missed} of ${seen + missed} were not seen`)
})

t.test('a page that is lost, doubled, or of another segment', async (t) => {
  const bytes = segments.find((one) => written(one) > 20) ?? Buffer.alloc(0)
  const other = segments.find((one) => one !== bytes && written(one) > 20) ?? Buffer.alloc(0)
  const changed = (work: (copy: Buffer) => void) => {
    const copy = Buffer.from(bytes)
    work(copy)
    return isSound(copy)
  }
  t.notOk(changed((copy) => copy.fill(0, 5 * page, 6 * page)))
  t.notOk(changed((copy) => bytes.copy(copy, 5 * page, 4 * page, 5 * page)))
  t.notOk(changed((copy) => other.copy(copy, 5 * page, 5 * page, 6 * page)))
  t.notOk(
    changed((copy) => copy.writeUInt32LE(2, 5 * page + 4)),
    'of a later timeline',
  )
})
