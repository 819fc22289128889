import fc from 'fast-check'
import t from 'tap'
import {
  parseWalKey,
  quarantineKey,
  quarantinePrefix,
  walKey,
  walPrefix,
  walSegmentPrefix,
  walTimelinePrefix,
} from '../../src/repository/layout.ts'
import { checkKey } from '../../src/storage/keys.ts'

const systemIdentifier = '7000000000000000001'
const hash = '0123456789ab'
const segment = '000000020000000A000000FF'
const root = `spavix/wal/${systemIdentifier}/`

t.test('keys of the WAL', async (t) => {
  const keys = {
    [`${root}00000002/0000000A/${segment}-${hash}.zst`]: { name: segment, kind: 'segment', hash, isEncrypted: false },
    [`${root}00000002/0000000A/${segment}-${hash}.zst.age`]: {
      name: segment,
      kind: 'segment',
      hash,
      isEncrypted: true,
    },
    [`${root}00000002/0000000A/${segment}.partial-${hash}.zst`]: {
      name: `${segment}.partial`,
      kind: 'partial',
      hash,
      isEncrypted: false,
    },
    [`${root}00000002/0000000A/${segment}.partial.0000000AFF000060-${hash}.zst`]: {
      name: `${segment}.partial.0000000AFF000060`,
      kind: 'partial',
      hash,
      isEncrypted: false,
    },
    [`${root}00000002.history`]: { name: '00000002.history', kind: 'history', hash: null, isEncrypted: false },
    [`${root}${segment}.00000028.backup`]: {
      name: `${segment}.00000028.backup`,
      kind: 'label',
      hash: null,
      isEncrypted: false,
    },
  } as const
  for (const [key, wal] of Object.entries(keys)) {
    t.equal(walKey('spavix', { systemIdentifier, ...wal }), key)
    t.same(parseWalKey('spavix', key), { systemIdentifier, ...wal })
    t.equal(checkKey(key), key)
    t.equal(parseWalKey('other', key), null)
    t.ok(key.startsWith(walPrefix('spavix', systemIdentifier)))
    if (wal.hash === null) continue
    t.ok(key.startsWith(walTimelinePrefix('spavix', systemIdentifier, 2, '0000000A')))
    t.ok(key.startsWith(walSegmentPrefix('spavix', systemIdentifier, segment)))
  }
  t.equal(walPrefix('spavix'), 'spavix/wal/')
})

t.test('what is no key of the WAL', async (t) => {
  const foreign = [
    'spavix/wal/',
    root,
    `${root}00000003/0000000A/${segment}-${hash}.zst`,
    `${root}00000002/0000000B/${segment}-${hash}.zst`,
    `${root}00000002/${segment}-${hash}.zst`,
    `${root}${segment}-${hash}.zst`,
    `${root}00000002/0000000A/${segment}`,
    `${root}00000002/0000000A/${segment}.zst`,
    `${root}00000002/0000000A/${segment}-${hash}`,
    `${root}00000002/0000000A/${segment}-${hash}.zst.age.tmp`,
    `${root}00000002/0000000A/${segment}-${hash.toUpperCase()}.zst`,
    `${root}00000002/0000000A/${segment}-${hash}.zst\n`,
    `${root}00000002/0000000A/.${segment}-${hash}.zst`,
    `${root}00000002/0000000A/00000002.history-${hash}.zst`,
    `${root}00000002/0000000A/${segment}.00000028.backup-${hash}.zst`,
    `${root}${segment}`,
    `${root}00000002/00000002.history`,
    `${root}x/00000002.history`,
    `spavix/wal/0/00000002.history`,
    `spavix/wal/-1/00000002.history`,
    `spavix/wal/../00000002.history`,
    `spavix/wal/123456789012345678901/00000002.history`,
    `spavix/backups/${systemIdentifier}/00000002.history`,
  ]
  for (const key of foreign) t.equal(parseWalKey('spavix', key), null, key)
  const refused = [
    { name: 'nonsense', hash, isEncrypted: false },
    { name: `../${segment}`, hash, isEncrypted: false },
    { name: segment, hash: null, isEncrypted: false },
    { name: segment, hash: 'abc', isEncrypted: false },
    { name: segment, hash: `../${hash}`, isEncrypted: false },
    { name: '00000002.history', hash, isEncrypted: false },
    { name: '00000002.history', hash: null, isEncrypted: true },
  ]
  for (const wal of refused)
    t.throws(() => walKey('spavix', { systemIdentifier, ...wal }), { code: 'usage-invalid' }, JSON.stringify(wal))
  for (const bad of ['', '../x', '7 ', '07', 'a'])
    t.throws(() => walPrefix('spavix', bad), { code: 'usage-invalid', message: /not a system identifier/ })
})

t.test('nothing but what was made is read', async (t) => {
  const part = fc.oneof(
    fc.constantFrom(
      systemIdentifier,
      '00000002',
      '0000000A',
      segment,
      `${segment}-${hash}.zst`,
      `${segment}.partial`,
      '.age',
      '..',
    ),
    fc.string({ maxLength: 4 }),
  )
  fc.assert(
    fc.property(fc.array(part, { maxLength: 6 }), fc.constantFrom('/', ''), (parts, glue) => {
      const key = `spavix/wal/${parts.join(glue)}`
      const read = parseWalKey('spavix', key)
      if (read !== null && walKey('spavix', read) !== key) throw new Error(key)
    }),
    { numRuns: 5000 },
  )
  t.pass()
})

t.test('quarantine', async (t) => {
  const file = { systemIdentifier, name: '000000010000000000000003', hash: '0123456789ab' }
  t.equal(
    quarantineKey('spavix', file),
    `spavix/quarantine/${systemIdentifier}/000000010000000000000003-0123456789ab.zst`,
  )
  t.equal(
    quarantineKey('spavix', { ...file, systemIdentifier: null, name: '00000002.history' }),
    'spavix/quarantine/unknown/00000002.history-0123456789ab.zst',
  )
  t.ok(quarantineKey('spavix', file).startsWith(quarantinePrefix('spavix', systemIdentifier, file.name)))
  t.equal(parseWalKey('spavix', quarantineKey('spavix', file)), null, 'it is not among the WAL')
  for (const bad of [
    { systemIdentifier: '../1' },
    { name: '../x' },
    { name: 'x' },
    { hash: '0123' },
    { hash: '../456789abc' },
  ])
    t.throws(() => quarantineKey('spavix', { ...file, ...bad }), { code: 'usage-invalid' }, JSON.stringify(bad))
})
