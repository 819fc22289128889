import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import type { PhysicalFacts } from '../../src/domain/backup.ts'
import { LifeboatError } from '../../src/domain/errors.ts'
import { parseWithChecksum, serializeWithChecksum } from '../../src/repository/canonical.ts'
import { artifactKey, isArtifactName, isClusterName, proofBackupId, proofKey } from '../../src/repository/layout.ts'
import { type ManifestBody, parseManifest, serializeManifest } from '../../src/repository/manifest.ts'
import { type ProofBody, parseProof, serializeProof } from '../../src/repository/proof.ts'
import { artifact, dumpArtifacts, dumpBody, dumpId, proofBody } from './fixtures/manifests.ts'

const place = { backupId: dumpId, cluster: 'prod' }
const proofPlace = { backupId: dumpId, key: 'prod/proofs/x.json' }

/** What reading a manifest says, in full: code and message. */
function refusal(work: () => unknown): string {
  try {
    work()
    return 'accepted'
  } catch (error) {
    return error instanceof LifeboatError ? `${error.code}: ${error.message}` : `not a LifeboatError: ${String(error)}`
  }
}

/** A document with a right checksum, whatever its text is: what somebody can make who knows how. */
function resealed(covered: string): Buffer {
  return Buffer.from(`${covered}  "checksum": "${createHash('sha256').update(covered).digest('hex')}"\n}\n`)
}

/** The part of a document that its checksum covers. */
function coveredPart(file: string): string {
  return file.slice(0, file.indexOf('  "checksum": '))
}

await t.test('a person can check a manifest with standard tools', async (t) => {
  const { text, manifest } = serializeManifest(dumpBody(), dumpArtifacts)
  const path = join(t.testdir({ 'manifest.json': text }), 'manifest.json')
  const sum = execFileSync('sh', ['-c', `head -n -2 ${path} | sha256sum`], { encoding: 'utf8' })
  t.equal(sum.slice(0, 64), manifest.checksum)
  t.equal(Object.keys(JSON.parse(text)).at(-1), 'checksum', 'it is the last field')
})

await t.test('canonical JSON', async (t) => {
  const json = fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue(), { minKeys: 1 })
  fc.assert(
    fc.property(json, (fields) => {
      if ('checksum' in fields) return true
      const bytes = Buffer.from(serializeWithChecksum(fields))
      const { checksum, ...rest } = parseWithChecksum(bytes)
      return typeof checksum === 'string' && JSON.stringify(rest) === JSON.stringify(fields)
    }),
    { numRuns: 300 },
  )
  const good = Buffer.from(serializeManifest(dumpBody(), dumpArtifacts).text)
  let accepted = 0
  for (let index = 0; index < good.length; index++) {
    const flipped = Buffer.from(good)
    flipped[index] = (flipped[index] ?? 0) ^ (1 << (index % 8))
    if (refusal(() => parseManifest(flipped, place)).startsWith('manifest-invalid')) continue
    accepted++
  }
  t.equal(accepted, 0, 'every flipped bit is seen')
  for (let length = 0; length < good.length; length++) {
    if (refusal(() => parseManifest(good.subarray(0, length), place)).startsWith('manifest-invalid')) continue
    accepted++
  }
  t.equal(accepted, 0, 'every truncation is seen')
  for (const garbage of ['\n', ' ', '\0', '{}', '\ufeff']) {
    t.match(
      refusal(() => parseManifest(Buffer.concat([good, Buffer.from(garbage)]), place)),
      /^manifest-invalid/,
    )
    t.match(
      refusal(() => parseManifest(Buffer.concat([Buffer.from(garbage), good]), place)),
      /^manifest-invalid/,
    )
  }
})

await t.test('a manifest that was edited, with its checksum made right again', async (t) => {
  const text = coveredPart(serializeManifest(dumpBody(), dumpArtifacts).text)
  const edits: readonly [string, string | RegExp, string, RegExp][] = [
    ['a field twice', '  "timeline": 1,\n', '  "timeline": 2,\n  "timeline": 1,\n', /canonical/],
    ['other spacing', '"timeline": 1', '"timeline":  1', /canonical/],
    ['an escape where none is needed', '"prod"', '"\\u0070rod"', /canonical/],
    ['a huge number', '"timeline": 1', '"timeline": 1e999', /canonical/],
    ['a number that a double cannot hold', '"bytes": 5', '"bytes": 9007199254740993', /canonical|whole number/],
    [
      'a large number',
      '"timeline": 1',
      '"timeline": 4294967296',
      /timeline must be a whole number from 1 to 4294967295/,
    ],
    [
      'a prototype',
      '  "timeline": 1,\n',
      '  "timeline": 1,\n  "__proto__": {},\n',
      /must not have a field "__proto__"/,
    ],
    [
      'a prototype deeper',
      '"pg_dump": "15.18"',
      '"__proto__": "15.18"',
      /producer.programs must not have a field "__proto__"/,
    ],
    [
      'an inherited name',
      '  "timeline": 1,\n',
      '  "timeline": 1,\n  "constructor": 1,\n',
      /must not have a field "constructor"/,
    ],
    ['an unknown field', '  "timeline": 1,\n', '  "timeline": 1,\n  "extra": 1,\n', /must not have a field "extra"/],
    ['a missing field', '  "timeline": 1,\n', '', /timeline is missing/],
    ['a newer format', '"formatVersion": 1', '"formatVersion": 2', /format version 2 is not known/],
    ['a format of another type', '"formatVersion": 1', '"formatVersion": "1"', /formatVersion must be 1/],
    ['another backup', `"${dumpId}"`, '"20260301T020000Z-dump-ffffff"', /belongs to another folder/],
    ['another cluster', '"prod"', '"other"', /belongs to another folder/],
    ['another type', '"type": "dump"', '"type": "full"', /the backup id says otherwise/],
    ['no type', '"type": "dump"', '"type": "external"', /type must be one of dump, full, incremental/],
    ['a parent', '"parent": null', `"parent": "${dumpId}"`, /parent must be given for an incremental/],
    ['a bad LSN', '16/B374D848', '16-B374D848', /stop.lsn must be an LSN/],
    ['a day that does not exist', '2026-03-01T02:00:09Z', '2026-02-30T02:00:09Z', /stop.time must be a UTC time/],
    ['a local time', '2026-03-01T02:00:09Z', '2026-03-01T02:00:09+01:00', /stop.time must be a UTC time/],
    ['a negative duration', '9.25', '-1', /durationSeconds must be/],
    ['a dump without its archive', '"name": "dump.tar"', '"name": "other.tar"', /artifacts has no dump.tar/],
    ['a dump without its roles', '"name": "globals.sql"', '"name": "g.sql"', /artifacts has no globals.sql/],
    ['a dump without instructions', '"name": "RESTORE.md"', '"name": "R.md"', /artifacts has no RESTORE.md/],
    ['a wrong list', '"warnings": []', '"warnings": {}', /warnings must be a list/],
    ['a wrong item', '"warnings": []', '"warnings": [\n    1\n  ]', /warnings\[0\] must be a text/],
    [
      'an artifact outside',
      '"name": "dump.tar"',
      '"name": "../dump.tar"',
      /artifacts\[0\].name must be the name of an artifact/,
    ],
    ['an artifact that is hidden', '"name": "dump.tar"', '"name": ".inprogress"', /artifacts\[0\].name/],
    ['the manifest as artifact', '"name": "dump.tar"', '"name": "manifest.json"', /artifacts\[0\].name/],
    [
      'a short hash',
      `"sha256": "${'ab'.repeat(32)}"`,
      '"sha256": "ab"',
      /artifacts\[0\].plain.sha256 must be a SHA-256/,
    ],
    [
      'no database',
      /"database": \{[^}]*\}/.exec(text)?.[0] ?? '',
      '"database": null',
      /database must be given for a dump/,
    ],
  ]
  for (const [what, from, to, message] of edits) {
    const edited = text.replace(from, to)
    t.not(edited, text, `${what} is an edit`)
    const bytes = resealed(edited)
    t.match(
      refusal(() => parseManifest(bytes, place)),
      message,
      what,
    )
    t.match(
      refusal(() => parseManifest(bytes, place)),
      /^manifest-invalid: the manifest of 2026/,
    )
  }
  t.equal(
    refusal(() => parseManifest(resealed(text), place)),
    'accepted',
    'unedited it is fine',
  )
  t.equal(({} as Record<string, unknown>).polluted, undefined)
  for (const covered of ['', '[\n', '{\n  "a": \xff1,\n', 'null,\n', '{\n']) {
    t.match(
      refusal(() => parseManifest(resealed(covered), place)),
      /^manifest-invalid/,
      JSON.stringify(covered),
    )
  }
  const badUtf8 = Buffer.concat([Buffer.from('{\n  "a": "'), Buffer.from([0xff]), Buffer.from('",\n')])
  const sum = createHash('sha256').update(badUtf8).digest('hex')
  const bytes = Buffer.concat([badUtf8, Buffer.from(`  "checksum": "${sum}"\n}\n`)])
  t.match(
    refusal(() => parseManifest(bytes, place)),
    /^manifest-invalid/,
    'not UTF-8',
  )
})

await t.test('manifests of any content come back as they were', async (t) => {
  const anyText = fc.string({ unit: 'binary' })
  const body = fc.record({
    name: fc.string({ unit: 'binary', minLength: 1 }),
    oid: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
    sourceBytes: fc.maxSafeNat(),
    warnings: fc.array(anyText),
    options: fc.array(anyText),
    durationSeconds: fc.double({ min: 0, max: 1e9, noNaN: true }),
    time: fc.date({ min: new Date(0), max: new Date('9999-12-31T23:59:59Z'), noInvalidDate: true }),
    names: fc.uniqueArray(fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._+-]{0,20}$/), { minLength: 1 }),
  })
  fc.assert(
    fc.property(body, ({ name, oid, sourceBytes, warnings, options, durationSeconds, time, names }) => {
      if (names.includes('manifest.json')) return true
      const all = [...new Set([...names, ...dumpArtifacts.map((required) => required.name)])]
      const { text, manifest } = serializeManifest(
        dumpBody(dumpId, {
          database: { name, oid, sourceBytes },
          warnings,
          durationSeconds,
          start: { lsn: '0/1', time: time.toISOString() },
          producer: { lifeboat: '1', programs: {}, options },
        }),
        all.map((artifactName) => ({ ...artifact, name: artifactName })),
      )
      const read = parseManifest(Buffer.from(text), place)
      return (
        JSON.stringify(read) === JSON.stringify(manifest) &&
        read.database?.name === name &&
        read.durationSeconds === Math.abs(durationSeconds) &&
        JSON.stringify(read.artifacts.map((found) => found.name)) === JSON.stringify(all)
      )
    }),
    { numRuns: 300 },
  )
  t.pass('300 of them')
})

await t.test('what could not be read back is not written', async (t) => {
  const bad: readonly [Partial<ManifestBody> | Record<string, unknown>, RegExp][] = [
    [{ durationSeconds: Number.NaN }, /durationSeconds/],
    [{ timeline: 0 }, /timeline/],
    [{ parent: undefined }, /parent is missing/],
    [{ systemIdentifier: '073' }, /systemIdentifier/],
    [{ cluster: '../x' }, /cluster/],
    [{ database: { name: '', oid: 1, sourceBytes: 0 } }, /database.name must be a text that is not empty/],
  ]
  for (const [changes, message] of bad) {
    const body = dumpBody(dumpId, changes as Partial<ManifestBody>)
    t.match(
      refusal(() => serializeManifest(body, dumpArtifacts)),
      message,
    )
    t.match(
      refusal(() => serializeManifest(body, dumpArtifacts)),
      /^usage-invalid/,
    )
  }
  t.match(
    refusal(() => serializeManifest(dumpBody(), [])),
    /artifacts must not be empty/,
  )
  t.match(
    refusal(() => serializeManifest(dumpBody(), [artifact, artifact])),
    /artifacts has a name twice/,
  )
  t.match(
    refusal(() => serializeManifest(dumpBody(), dumpArtifacts.slice(1))),
    /artifacts has no dump.tar/,
  )
})

await t.test('proofs', async (t) => {
  const { text, proof } = serializeProof(proofBody())
  t.same(parseProof(Buffer.from(text), proofPlace), proof)
  const restored = {
    bytes: 1,
    walBytes: 2,
    seconds: 0.5,
    timeline: 1,
    lsn: '0/3000028',
    target: null,
    lastCommitAt: null,
  }
  const physical = serializeProof(proofBody(dumpId, { restored }))
  t.same(parseProof(Buffer.from(physical.text), proofPlace).restored, restored)
  t.match(
    refusal(() => parseProof(Buffer.from(text.slice(1)), proofPlace)),
    /^proof-invalid: the proof prod.proofs/,
  )
  const other = { ...proofPlace, backupId: '20260301T020000Z-dump-ffffff' }
  t.match(
    refusal(() => parseProof(Buffer.from(text), other)),
    /its name says otherwise/,
  )
  t.match(
    refusal(() =>
      parseProof(resealed(coveredPart(text).replace('"formatVersion": 1', '"formatVersion": 9')), proofPlace),
    ),
    /format version 9/,
  )
  t.match(
    refusal(() => parseProof(resealed(coveredPart(text).replace('"fetch"', '"__proto__"')), proofPlace)),
    /phases must not have/,
  )
  const bad: readonly [Record<string, unknown>, RegExp][] = [
    [{ level: 'deep' }, /level must be one of artifact, restore, data/],
    [{ levels: { restored: {} } }, /levels must not have a field "restored"/],
    [{ levels: { artifact: { verdict: 'ok' } } }, /levels.artifact.checks is missing/],
    [{ manifestChecksum: 'x' }, /manifestChecksum/],
    [{ phases: { fetch: -1 } }, /phases.fetch/],
    [{ hashed: [{}] }, /hashed\[0\].name is missing/],
    [{ finishedAt: 'yesterday' }, /finishedAt/],
  ]
  for (const [changes, message] of bad) {
    t.match(
      refusal(() => serializeProof(proofBody(dumpId, changes as Partial<ProofBody>))),
      message,
    )
  }
  t.equal(serializeProof(proofBody(dumpId, { manifestChecksum: '', levels: {} })).proof.manifestChecksum, '')
})

await t.test('names', async (t) => {
  for (const name of ['dump.tar', 'globals.sql', 'RESTORE.md', 'backup_manifest', '16384.tar.zst', '_x']) {
    t.ok(isArtifactName(name), name)
  }
  for (const name of ['', '.', '..', '.x', '-x', 'a/b', 'a\\b', 'a b', 'a\n', 'ü', 'manifest.json', 'x'.repeat(201)]) {
    t.notOk(isArtifactName(name), JSON.stringify(name))
    t.match(
      refusal(() => artifactKey('prod', dumpId, name)),
      /^usage-invalid/,
    )
  }
  for (const name of ['', '.', '..', '.x', 'a/b', 'a\0']) t.notOk(isClusterName(name), JSON.stringify(name))
  const key = proofKey('prod', new Date('2026-03-08T04:01:00.9Z'), dumpId)
  t.equal(key, `prod/proofs/20260308T040100Z-${dumpId}.json`)
  t.equal(proofBackupId('prod', key), dumpId)
  t.equal(proofBackupId('other', key), null)
  for (const bad of [
    `${key}x`,
    `${key}.json`,
    'prod/proofs/x.json',
    'prod/proofs/20260308T040100Z-x.json',
    `a/${key}`,
  ]) {
    t.equal(proofBackupId('prod', bad), null, bad)
  }
  t.match(
    refusal(() => proofKey('prod', new Date(), '../x')),
    /^usage-invalid/,
  )
})

await t.test('a physical backup says what it is made of', async (t) => {
  const id = '20260301T030000Z-full-abcdef'
  const physical: PhysicalFacts = {
    wal: [{ timeline: 1, start: '0/2000028', end: '0/2000138' }],
    tablespaces: [{ oid: 16_384, path: '/mnt/fast', artifact: '16384.tar.zst' }],
    segmentSize: 16_777_216,
    dataChecksums: true,
    sourceBytes: 30_000_000,
    fromStandby: false,
    configSaved: false,
  }
  const body: ManifestBody = { ...dumpBody(), backupId: id, type: 'full', database: null, physical }
  const names = ['base.tar.zst', '16384.tar.zst', 'backup_manifest', 'RESTORE.md']
  const artifacts = names.map((name) => ({ ...artifact, name }))
  const { text, manifest } = serializeManifest(body, artifacts)
  t.same(manifest.physical, physical)
  t.same(parseManifest(Buffer.from(text), { backupId: id, cluster: 'prod' }), manifest)
  const refused = (fields: Partial<ManifestBody>, held = artifacts) =>
    refusal(() => serializeManifest({ ...body, ...fields }, held))
  const { physical: _, ...without } = body
  t.match(
    refusal(() => serializeManifest(without, artifacts)),
    /physical must be given for a physical backup/,
  )
  t.match(
    refusal(() => serializeManifest({ ...dumpBody(), physical }, dumpArtifacts)),
    /physical must be given for a physical backup, only/,
  )
  t.match(refused({}, artifacts.slice(1)), /artifacts has no base.tar.zst/)
  t.match(
    refused(
      {},
      artifacts.filter(({ name }) => name !== '16384.tar.zst'),
    ),
    /artifacts has no 16384.tar.zst/,
  )
  t.match(refused({ physical: { ...physical, segmentSize: 1000 } }), /physical.segmentSize must be the size of a WAL/)
  t.match(
    refused({ physical: { ...physical, wal: [{ timeline: 0, start: '0/1', end: '0/2' }] } }),
    /physical.wal\[0\].timeline must be/,
  )
})
